// Uses testcontainers and never cleans up: prints what it created and waits to be killed.
import Docker from 'dockerode';
import { GenericContainer, Network, getContainerRuntimeClient, getReaper } from 'testcontainers';

const network = await new Network().start();
const container = await new GenericContainer('busybox').withCommand(['sleep', '1000']).withNetwork(network).start();
const reaper = await getReaper(await getContainerRuntimeClient());
const docker = new Docker({ socketPath: process.env.DOCKER_HOST.replace('unix://', '') });
const { name } = await docker.createVolume({
  Name: `left-${reaper.sessionId}`,
  Labels: { 'org.testcontainers.session-id': reaper.sessionId },
});
console.log(
  JSON.stringify({ container: container.getId(), network: network.getId(), volume: name, reaper: reaper.containerId }),
);
setInterval(() => undefined, 1000);
