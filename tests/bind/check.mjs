// Holds files to TypeScript, each by itself or all in one program: `node check.mjs COMPILER apart|together FILE…`. A
// compiler for each would read the libraries again.

const [compiler, how, ...files] = process.argv.slice(2);
const { default: ts } = await import(compiler);
const options = {
  strict: true,
  noEmit: true,
  moduleDetection: ts.ModuleDetectionKind.Legacy,
  skipLibCheck: true,
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
for (const part of how === 'apart' ? files.map((file) => [file]) : [files]) {
  program = ts.createProgram(part, options, host, program);
  for (const { file, start, messageText } of ts.getPreEmitDiagnostics(program)) {
    const line = file ? `${file.fileName}:${file.getLineAndCharacterOfPosition(start).line + 1}: ` : '';
    console.log(`${line}${ts.flattenDiagnosticMessageText(messageText, ' ')}`);
    process.exitCode = 1;
  }
}
