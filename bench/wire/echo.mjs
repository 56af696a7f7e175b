// The echo of wit/echo.wit in Node: `node echo.mjs [ADDRESS]`.
import { loadWit, serve } from '../../sdk/node/dist/index.js';

await serve({
  wit: loadWit(new URL('wit', import.meta.url)),
  provides: { 'bench:wire/echo': { add: (a, b) => (a + b) >>> 0, echo: (data) => data } },
  on: process.argv[2] ?? 'stdio:',
  signals: true,
});
