/** The processes of a container: ps(1), filtered by its cgroup. */
export async function top(_cgroupPids: number[], _psArgs: string): Promise<{ Titles: string[]; Processes: string[][] }> { throw new Error('unwritten'); }
