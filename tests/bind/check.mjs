// Holds each file that it is given to TypeScript by itself: `node check.mjs COMPILER FILE…`. A compiler for each would
// read the libraries again.

const [compiler, ...files] = process.argv.slice(2);
const { default: ts } = await import(compiler);
const options = {
  strict: true,
  noEmit: true,
  skipLibCheck: false,
  exactOptionalPropertyTypes: true,
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.NodeNext,
  lib: ['lib.es2024.d.ts', 'lib.esnext.disposable.d.ts'],
  types: ['node'],
};
const host = ts.createCompilerHost(options);
const read = host.getSourceFile.bind(host);
const known = new Map();
host.getSourceFile = (name, ...more) => {
  if (!known.has(name)) known.set(name, read(name, ...more));
  return known.get(name);
};
let program;
for (const file of files) {
  program = ts.createProgram([file], options, host, program);
  for (const found of ts.getPreEmitDiagnostics(program)) {
    const where = found.file ? `${found.file.fileName}:${found.file.getLineAndCharacterOfPosition(found.start).line + 1}` : file;
    console.log(`${where}: ${ts.flattenDiagnosticMessageText(found.messageText, ' ')}`);
    process.exitCode = 1;
  }
}
