// The provider that tests start in a process of its own.
import { ALL, makeAll, wit } from './support.js';
import { serve } from '../dist/index.js';

await serve({ wit, provides: { [ALL]: makeAll() } });
console.log('this must not disturb the frames');
process.stdout.write('nor this\n');
