// How `loop dev` has the site's code: it gives it to an engine, which takes a tenth of the time that building the site does.

export const dev = {
  // options of esbuild
  bundle: { entryPoints: ["site.js"], format: "esm" },
  wit: "../wit",
  // the options of the build, as componentize-qjs takes them
  componentize: { optSize: true },
};
