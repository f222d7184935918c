/** What `holdfastd check` says about nf_tables, in a network namespace of its own. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { NftNetns } from '../support/nft-netns.ts';

const HOLDFASTD = fileURLToPath(new URL('../../bin/holdfastd', import.meta.url));
let netns: NftNetns;
beforeAll(() => void (netns = new NftNetns()));
afterAll(() => netns?.remove());

/** The report's line about nf_tables. */
async function verdict(...command: string[]): Promise<string | undefined> {
  const [program, ...args] = [...command, HOLDFASTD, 'check'];
  // It ends with 1 when anything is missing.
  const { stdout } = await promisify(execFile)('nsenter', [`--net=${netns.path}`, program, ...args]).catch(
    (error: unknown) => error as { stdout: string },
  );
  return stdout.split('\n').find((line) => line.includes(' nf_tables '));
}

test('the kernel is asked whether it accepts the rules, and nothing is changed [check-nf-tables]', async () => {
  expect(await verdict()).toBe('  ok     nf_tables       the kernel accepts the rules of networks and published ports');
  expect(netns.nft('list', 'ruleset')).toBe('');
});

test('without CAP_NET_ADMIN the error says what it needs [check-nf-tables-refused]', async () => {
  const drop = ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin'];
  expect(await verdict(...drop)).toBe(
    'MISSING  nf_tables       ports cannot be published, networks are not isolated: create table ip holdfast_check: EPERM: that needs CAP_NET_ADMIN',
  );
});
