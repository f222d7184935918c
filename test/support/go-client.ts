/** Requests as Docker's Go client sends them: all fields of a body, zero values too, and hijacked connections. */
import { connect, type Socket } from 'node:net';

const FINAL_RESPONSE = /^HTTP\/1\.1 (\d+)/;

/** Go's `container.Config`: what the client does not set is sent with its zero value. */
export const goConfig = (set: object): object => ({
  Hostname: '',
  Domainname: '',
  User: '',
  AttachStdin: false,
  AttachStdout: false,
  AttachStderr: false,
  Tty: false,
  OpenStdin: false,
  StdinOnce: false,
  Env: null,
  Cmd: null,
  Image: '',
  Volumes: null,
  WorkingDir: '',
  Entrypoint: null,
  OnBuild: null,
  Labels: null,
  ...set,
});

/** Go's `container.HostConfig`. */
export const goHostConfig = (set: object): object => ({
  Binds: null,
  ContainerIDFile: '',
  LogConfig: { Type: '', Config: null },
  NetworkMode: '',
  PortBindings: null,
  RestartPolicy: { Name: '', MaximumRetryCount: 0 },
  AutoRemove: false,
  VolumeDriver: '',
  VolumesFrom: null,
  ConsoleSize: [0, 0],
  CapAdd: null,
  CapDrop: null,
  CgroupnsMode: '',
  Dns: null,
  DnsOptions: null,
  DnsSearch: null,
  ExtraHosts: null,
  GroupAdd: null,
  IpcMode: '',
  Cgroup: '',
  Links: null,
  OomScoreAdj: 0,
  PidMode: '',
  Privileged: false,
  PublishAllPorts: false,
  ReadonlyRootfs: false,
  SecurityOpt: null,
  UTSMode: '',
  UsernsMode: '',
  ShmSize: 0,
  Isolation: '',
  CpuShares: 0,
  Memory: 0,
  NanoCpus: 0,
  CgroupParent: '',
  BlkioWeight: 0,
  BlkioWeightDevice: null,
  BlkioDeviceReadBps: null,
  BlkioDeviceWriteBps: null,
  BlkioDeviceReadIOps: null,
  BlkioDeviceWriteIOps: null,
  CpuPeriod: 0,
  CpuQuota: 0,
  CpuRealtimePeriod: 0,
  CpuRealtimeRuntime: 0,
  CpusetCpus: '',
  CpusetMems: '',
  Devices: null,
  DeviceCgroupRules: null,
  DeviceRequests: null,
  MemoryReservation: 0,
  MemorySwap: 0,
  MemorySwappiness: null,
  OomKillDisable: null,
  PidsLimit: null,
  Ulimits: null,
  CpuCount: 0,
  CpuPercent: 0,
  IOMaximumIOps: 0,
  IOMaximumBandwidth: 0,
  MaskedPaths: null,
  ReadonlyPaths: null,
  ...set,
});

/** A connection after `101 UPGRADED`. */
export interface Hijacked {
  write(text: string): void;
  /** Ends the input, as Go's CloseWrite: the other direction stays open. */
  closeWrite(): void;
  /** What has arrived so far. */
  received(): Buffer;
  /** All output, when the server has closed the connection. */
  output: Promise<Buffer>;
  close(): void;
}

/** POSTs and takes the connection over. @throws when the answer is not 101 */
export async function hijack(socketPath: string, path: string, body?: object): Promise<Hijacked> {
  const payload = body === undefined ? '' : `${JSON.stringify(body)}\n`;
  const type = body === undefined ? 'Content-Type: text/plain' : 'Content-Type: application/json';
  const head = [
    `POST ${path} HTTP/1.1`,
    'Host: api.moby.localhost',
    'User-Agent: Go-http-client/1.1',
    `Content-Length: ${payload.length}`,
    'Connection: Upgrade',
    type,
    'Upgrade: tcp',
  ];
  const socket = connect({ path: socketPath, allowHalfOpen: true });
  socket.write(`${head.join('\r\n')}\r\n\r\n${payload}`);
  return takeOver(socket);
}

function takeOver(socket: Socket): Promise<Hijacked> {
  let received = Buffer.alloc(0);
  let upgraded = false;
  return new Promise<Hijacked>((resolve, reject) => {
    const output = new Promise<Buffer>((ended) => {
      socket.on('end', () => {
        socket.end();
        ended(received);
        if (!upgraded) reject(new Error(`the server closed: ${received.toString()}`));
      });
    });
    socket.on('error', reject);
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      const end = upgraded ? -1 : received.indexOf('\r\n\r\n');
      if (end < 0) return;
      const answer = received.toString();
      if (FINAL_RESPONSE.exec(answer)?.[1] !== '101') {
        socket.destroy();
        reject(new Error(answer));
        return;
      }
      upgraded = true;
      received = received.subarray(end + 4);
      resolve({
        write: (text) => void socket.write(text),
        closeWrite: () => socket.end(),
        received: () => received,
        output,
        close: () => socket.destroy(),
      });
    });
  });
}
