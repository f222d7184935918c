/** What brings a container about (fault-points.ts). */
import { testAtEachPoint } from './fault-points.ts';

testAtEachPoint('create', 'start');
