/** What changes a container that runs (fault-points.ts). */
import { testAtEachPoint } from './fault-points.ts';

testAtEachPoint('exec', 'rename', 'restart', 'stop', 'rm');
