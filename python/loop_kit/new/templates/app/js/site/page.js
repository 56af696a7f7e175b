// What pages show, apart from any host: plain functions, which page.test.js tests in Node.js.

/** The answer to a request for `/?name=Ada`; `greet` is your provider's. */
export function respond(target, greet) {
  const [path, query] = target.split("?");
  if (path !== "/") return { status: 404, html: page("There is no such page", `<p><a href="/">Home</a></p>`) };
  const name = parameter(query, "name") || "world";
  const form = `<form><input name="name" aria-label="Your name" placeholder="Your name"><button>Greet</button></form>`;
  return { status: 200, html: page(greet(name), form) };
}

/** What is shown where something has gone wrong. */
export const failure = () => ({ status: 500, html: page("Something went wrong", "<p>The log says what.</p>") });

function page(title, content) {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escape(title)}</title>
<style>
  :root { color-scheme: light dark; font: 1.1rem/1.6 system-ui, sans-serif }
  body { max-width: 36rem; margin: 20vh auto; padding: 0 1rem }
  input, button { font: inherit; padding: .4rem .8rem }
</style>
<h1>${escape(title)}</h1>
${content}
</html>
`;
}

/** One parameter of a query; "" where it is missing or malformed. */
function parameter(query = "", wanted) {
  for (const pair of query.split("&")) {
    const [name, value = ""] = pair.split("=");
    try {
      if (name === wanted) return decodeURIComponent(value.replaceAll("+", " "));
    } catch {
      return "";
    }
  }
  return "";
}

const entities = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escape = (text) => text.replace(/[&<>"]/g, (char) => entities[char]);
