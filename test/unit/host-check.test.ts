import { describe, expect, test } from 'vitest';
import { check, findings, report } from '../../src/check/check.ts';
import { installCommand } from '../../src/check/packages.ts';
import type { Finding, Probe } from '../../src/check/probe.ts';
import { explainNative } from '../../src/check/probes/programs.ts';
import { loadConfig } from '../../src/config/load.ts';

const invocation = loadConfig([], process.env);
if (!('config' in invocation)) throw new Error('no configuration');
const { config } = invocation;

describe('findings', () => {
  test('include a probe that throws', async () => {
    const broken: Probe = {
      subject: 'thing',
      look: () => {
        throw new Error('it is on fire');
      },
    };
    expect(await findings(config, [broken])).toEqual([{ subject: 'thing', verdict: 'lacking', text: 'it is on fire' }]);
  });

  test('of the real probes come on any host and decide the exit code', async () => {
    let printed = '';
    const code = await check(config, (text) => (printed += text));
    expect(printed).toContain('Node.js');
    expect(code).toBe(printed.includes('MISSING') ? 1 : 0);
  });

  test('name what is missing for the configured paths', async () => {
    const elsewhere = {
      ...config,
      seccompProfile: '/nowhere/seccomp.json',
      runtimes: { runc: { path: '/nowhere/runc', args: [] } },
    };
    const lacking = (await findings(elsewhere)).filter((f) => f.verdict === 'lacking').map((f) => f.subject);
    expect(lacking).toEqual(expect.arrayContaining(['OCI runtime', 'seccomp profile']));
  });
});

describe('the report', () => {
  const missing: Finding = {
    subject: 'ip',
    verdict: 'lacking',
    text: 'not installed',
    remedy: 'apt-get install iproute2',
  };

  test('says what is missing, how to install it, and the verdict', () => {
    expect(report([missing])).toBe(
      'MISSING  ip              not installed\n                         → apt-get install iproute2\n\nThis host cannot run Holdfast yet: ip.\n',
    );
  });

  test('does not fail because of notes', () => {
    expect(report([{ ...missing, verdict: 'advice' }])).toContain('This host can run Holdfast; 1 note above.');
  });
});

describe('native modules', () => {
  test('report a build for another Node with the command that repairs it', () => {
    const error = new Error(
      "The module '/x/better_sqlite3.node'\nwas compiled against a different Node.js version using\nNODE_MODULE_VERSION 115. This version of Node.js requires\nNODE_MODULE_VERSION 127. Please try re-compiling",
    );
    expect(explainNative('better-sqlite3', error)).toEqual({
      text: expect.stringContaining('module version 115'),
      remedy: 'npm rebuild better-sqlite3',
    });
  });

  test.each([
    ["Cannot find package 'better-sqlite3' imported from /x", 'npm ci'],
    ['Could not locate the bindings file. Tried:\n → /x', 'npm rebuild better-sqlite3   (needs python3, make and g++)'],
    ['/x.node: invalid ELF header', 'npm rebuild better-sqlite3   (needs python3, make and g++)'],
  ])('report %j with its remedy', (message, remedy) => {
    expect(explainNative('better-sqlite3', new Error(message)).remedy).toBe(remedy);
  });
});

describe('packages', () => {
  test.each([
    ['ID=debian\n', 'ip', 'apt-get install iproute2'],
    ['ID=ubuntu\nID_LIKE=debian\n', 'runc', 'apt-get install runc'],
    ['ID="rocky"\nID_LIKE="rhel centos fedora"\n', 'seccomp.json', 'dnf install containers-common'],
    ['ID=slackware\n', 'runc', 'install the package that provides runc'],
  ])('on %j: names the command that installs %s', (osRelease, program, command) => {
    expect(installCommand(program, osRelease)).toBe(command);
  });
});
