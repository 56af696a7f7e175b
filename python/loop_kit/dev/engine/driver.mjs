// Bundles a component's code for `loop dev`, and builds engines: a process that stays, since starting takes longer than
// what it does. It reads one request a line from descriptor 3, and answers each with one line there.
//
//   node driver.mjs MODULE
//
// MODULE is the script of the manifest's `dev`. Its tools, esbuild and componentize-qjs, are those of its own folder; of one
// that is not there it is told, and asked once more.

import { cp, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { Socket } from "node:net";
import { dirname, relative, resolve } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const script = resolve(process.argv[2]);
const folder = dirname(script);
// what scripts say is for people
console.log = console.info = console.error;

const find = createRequire(script);

/** Where tools are that loop-kit has installed, by their names. */
const fetched = new Map();

class Missing extends Error {}

/** A tool of the script's own folder, else the one that loop-kit installs. */
function located(name, file = "") {
  try {
    return find.resolve(name + file);
  } catch {
    if (fetched.has(name)) return fetched.get(name).resolve(name + file);
    throw new Missing(name);
  }
}

async function tool(name) {
  const found = await import(pathToFileURL(located(name)));
  return found.default ?? found;
}

const version = async (name) => JSON.parse(await readFile(located(name, "/package.json"), "utf8")).version;

const PACKAGE = "loop-package";

/** Interfaces of WIT, which the engine imports. */
const interfaces = {
  name: "wit",
  setup: (build) => build.onResolve({ filter: /^[a-z][a-z0-9-]*:[a-z0-9-]+\/[a-z0-9-]+(@.+)?$/ }, ({ path }) => (path.startsWith("node:") ? undefined : { path, external: true })),
};

class Project {
  static async open() {
    const { dev } = await import(pathToFileURL(script));
    if (typeof dev !== "object" || dev === null || typeof dev.bundle !== "object" || !["string", "function"].includes(typeof dev.wit))
      throw new Error(`${script} exports no dev = { bundle: options of esbuild, wit: a folder, or a function that fills one }`);
    return new Project(dev, await tool("esbuild"));
  }

  constructor(dev, esbuild) {
    Object.assign(this, { dev, esbuild, known: new Map(), used: new Set(), packages: null });
  }

  /** Fills a folder with the WIT of the component's world. */
  async wit({ folder: into }) {
    if (typeof this.dev.wit === "function") await this.dev.wit(into);
    else await cp(resolve(folder, this.dev.wit), into, { recursive: true });
    const versions = { esbuild: await version("esbuild"), componentize: await version("componentize-qjs") };
    return { world: this.dev.world ?? null, options: this.dev.componentize ?? {}, versions };
  }

  options() {
    // where and how it writes is not the script's to say here
    const { plugins = [], absWorkingDir = folder, outfile, outbase, splitting, packages, ...rest } = this.dev.bundle;
    return {
      ...rest,
      absWorkingDir,
      plugins: [interfaces, ...plugins, this.plugin()],
      bundle: true,
      write: false,
      format: "cjs",
      metafile: true,
      sourcemap: "external",
      sourcesContent: false,
      outdir: folder,
      logLevel: "silent",
    };
  }

  /** Leaves out installed packages, which the engine holds: they are most of the code, and change seldom. */
  plugin() {
    return {
      name: PACKAGE,
      setup: (build) => {
        build.onResolve({ filter: /^[^./]/ }, async ({ path, kind, pluginData, ...from }) => {
          if (pluginData === PACKAGE || kind === "entry-point") return undefined;
          const found = await build.resolve(path, { kind, pluginData: PACKAGE, importer: from.importer, resolveDir: from.resolveDir });
          if (found.errors.length || found.external || !found.path.includes("/node_modules/")) return undefined;
          if (!/\.[cm]?js$/.test(found.path)) return undefined;
          this.used.add(found.path);
          return { path: found.path, namespace: PACKAGE };
        });
        build.onLoad({ filter: /.*/, namespace: PACKAGE }, async ({ path }) => {
          const names = await this.exports(path);
          const held = `const held = require(${JSON.stringify(`package:${path}`)});\n`;
          if (names === null) return { contents: `${held}module.exports = held.default;` };
          const each = names.map((name, at) => `const e${at} = held[${JSON.stringify(name)}];\nexport { e${at} as ${JSON.stringify(name)} };\n`);
          return { contents: held + each.join("") };
        });
        build.onResolve({ filter: /^package:/ }, ({ path }) => ({ path, external: true }));
      },
    };
  }

  /** The names that a package's module exports; null where it is of CommonJS, and they are not known. */
  async exports(path) {
    if (!this.known.has(path)) {
      const { metafile } = await this.esbuild.build({ ...this.plain(), entryPoints: [path] });
      const isCommon = metafile.inputs[relative(folder, path)]?.format === "cjs";
      this.known.set(path, isCommon ? null : Object.values(metafile.outputs)[0].exports);
    }
    return this.known.get(path);
  }

  plain() {
    const { define, conditions, mainFields, loader, alias, target } = this.dev.bundle;
    const options = { define, conditions, mainFields, loader, alias, target };
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    return { ...given, absWorkingDir: folder, bundle: true, write: false, format: "esm", metafile: true, outdir: folder, logLevel: "silent", plugins: [interfaces] };
  }

  /** The code as it is now, what of it was read, and which packages it wants. */
  async bundle() {
    this.context ??= await this.esbuild.context(this.options());
    this.used.clear();
    let made;
    try {
      made = await this.context.rebuild();
    } catch (error) {
      if (!error.errors) throw error;
      const said = await this.esbuild.formatMessages(error.errors, { kind: "error", color: false });
      return { failed: said.join("\n") };
    }
    const warnings = await this.esbuild.formatMessages(made.warnings, { kind: "warning", color: false });
    const file = (end) => made.outputFiles.find(({ path }) => path.endsWith(end));
    const map = JSON.parse(file(".js.map").text);
    const inputs = Object.keys(made.metafile.inputs).filter((path) => !path.startsWith(`${PACKAGE}:`));
    // esbuild tells sources from where its output would be
    const { absWorkingDir = folder } = this.dev.bundle;
    return {
      text: file(".js").text,
      map: { ...map, sources: map.sources.map((source) => resolve(folder, source)) },
      inputs: inputs.map((path) => resolve(absWorkingDir, path)),
      packages: [...this.used].sort(),
      warnings: warnings.join("\n"),
    };
  }

  /** The packages in one module, which exports `packages`. */
  async hold({ packages }) {
    const lines = packages.map((path, at) => `import * as p${at} from ${JSON.stringify(path)};`);
    const held = packages.map((path, at) => `${JSON.stringify(`package:${path}`)}: { ...p${at}, __esModule: true }`);
    const contents = `${lines.join("\n")}\nexport const packages = { ${held.join(", ")} };\n`;
    const { outputFiles } = await this.esbuild.build({ ...this.plain(), stdin: { contents, resolveDir: folder } });
    return { text: outputFiles[0].text };
  }

  /** Builds an engine from the loader and the packages that it holds. */
  async engine({ loader, packages, wit, output, options }) {
    const { componentize } = await tool("componentize-qjs");
    const { outputFiles } = await this.esbuild.build({
      stdin: { contents: loader, resolveDir: folder, sourcefile: "loader.js" },
      bundle: true,
      write: false,
      format: "esm",
      logLevel: "silent",
      plugins: [
        {
          name: "packages",
          setup: (build) => {
            build.onResolve({ filter: /^loop:packages$/ }, ({ path }) => ({ path, namespace: "held" }));
            build.onLoad({ filter: /.*/, namespace: "held" }, () => ({ contents: packages }));
            build.onResolve({ filter: /^[^./]/ }, ({ path, kind }) => (kind === "entry-point" ? undefined : { path, external: true }));
          },
        },
      ],
    });
    const { component } = await componentize({ ...options, witPath: wit, world: "engine", jsSource: outputFiles[0].text });
    await writeFile(output, component);
    return {};
  }
}

const socket = new Socket({ fd: 3, readable: true, writable: true });
// whoever asks is gone
socket.on("close", () => process.exit(0));

let project = null;
for await (const line of createInterface({ input: socket })) {
  const { ask, ...given } = JSON.parse(line);
  let answer;
  try {
    if (ask === "have") {
      fetched.set(given.name, createRequire(`${given.folder}/package.json`));
      answer = {};
    } else {
      project ??= await Project.open();
      answer = await project[ask](given);
    }
  } catch (error) {
    if (error instanceof Missing) {
      socket.write(`${JSON.stringify({ missing: error.message })}\n`);
      continue;
    }
    answer = { failed: error.stack?.startsWith(String(error)) ? error.stack : String(error.stack ?? error.message ?? error) };
  }
  socket.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
