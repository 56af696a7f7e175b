// Markdown → HTML. Nothing here knows of files, HTTP or the look of a page.

import MarkdownIt from "markdown-it";

import { highlight } from "./highlight.js";
import { escape } from "./html.js";

// Raw HTML is recognised so that comments can be left out; everything else of it is shown as the text it is. What
// links may point to (no javascript: and the like) is markdown-it's own rule.
const markdown = new MarkdownIt({ html: true, linkify: true });
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
const rules = markdown.renderer.rules;

const isComment = (text) => /^\s*<!--[^]*-->\s*$/.test(text);
rules.html_inline = (tokens, i) => (isComment(tokens[i].content) ? "" : escape(tokens[i].content));
rules.html_block = (tokens, i) => (isComment(tokens[i].content) ? "" : `<p>${escape(tokens[i].content)}</p>\n`);

/** The words of an inline token, without any markup. */
function plain(inline) {
  return (inline.children ?? [])
    .map((token) => {
      if (token.type === "image") return plain(token);
      if (token.type === "softbreak" || token.type === "hardbreak") return " ";
      return token.type === "html_inline" && isComment(token.content) ? "" : token.content;
    })
    .join("");
}

/** Gives headings their ids as GitHub does: words joined by hyphens, and a number where they would repeat. */
function slugger() {
  const used = new Map();
  return (heading) => {
    const slug = heading.trim().toLowerCase().replace(/[^\p{L}\p{N}\p{M}_\- ]/gu, "").replaceAll(" ", "-") || "section";
    const count = used.get(slug) ?? 0;
    used.set(slug, count + 1);
    return count === 0 ? slug : `${slug}-${count}`;
  };
}

markdown.core.ruler.push("headings", (state) => {
  const slug = slugger();
  state.tokens.forEach((token, i) => {
    if (token.type !== "heading_open") return;
    const text = plain(state.tokens[i + 1]);
    const id = slug(text);
    token.attrSet("id", id);
    state.env.headings?.push({ level: Number(token.tag[1]), id, text });
  });
});

rules.heading_close = (tokens, i) => {
  const id = tokens[i - 2].attrGet("id");
  const label = `Link to “${plain(tokens[i - 1])}”`;
  return ` <a class="anchor" href="#${escape(encodeURIComponent(id))}" aria-label="${escape(label)}">#</a></${tokens[i].tag}>\n`;
};

// Links and images of the folder itself get the address that the site gives them.
markdown.core.ruler.push("links", (state) => {
  const { resolve } = state.env;
  if (!resolve) return;
  const visit = (tokens) =>
    tokens.forEach((token, i) => {
      if (token.children) visit(token.children);
      const attribute = token.type === "link_open" ? "href" : token.type === "image" ? "src" : null;
      if (!attribute) return;
      const url = resolve(token.attrGet(attribute));
      if (url !== null) {
        token.attrSet(attribute, url);
      } else if (attribute === "href") {
        // A link to nowhere is worse than its words: say what is missing, and do not offer to go there.
        token.attrs = [["class", "missing"], ["title", `Not on this site: ${token.attrGet("href")}`]];
        token.tag = "span";
        tokens[closing(tokens, i)].tag = "span";
      }
    });
  visit(state.tokens);
});

const closing = (tokens, open) => tokens.findIndex((token, i) => i > open && token.type === "link_close");

// > [!NOTE] and its kin, as on GitHub.
const alerts = { NOTE: "Note", TIP: "Tip", IMPORTANT: "Important", WARNING: "Warning", CAUTION: "Caution" };
markdown.core.ruler.after("block", "alerts", (state) => {
  state.tokens.forEach((token, i) => {
    const inline = state.tokens[i + 2];
    if (token.type !== "blockquote_open" || inline?.type !== "inline") return;
    const match = /^\[!([A-Z]+)\][ \t]*(?:\n|$)/.exec(inline.content);
    if (!match || !Object.hasOwn(alerts, match[1])) return;
    inline.content = inline.content.slice(match[0].length);
    token.attrs = [["class", `alert ${match[1].toLowerCase()}`], ["role", "note"]];
    token.meta = { title: alerts[match[1]] };
  });
});
rules.blockquote_open = (tokens, i, options, env, self) => {
  const title = tokens[i].meta?.title;
  return self.renderToken(tokens, i, options) + (title ? `<p class="alert-title">${title}</p>\n` : "");
};

// - [ ] and - [x] become boxes.
markdown.core.ruler.after("inline", "tasks", (state) => {
  state.tokens.forEach((token, i) => {
    const first = token.children?.[0];
    if (token.type !== "inline" || first?.type !== "text" || state.tokens[i - 2]?.type !== "list_item_open") return;
    const match = /^\[([ xX])\] /.exec(first.content);
    if (!match) return;
    first.content = first.content.slice(match[0].length);
    const box = new state.Token("task", "input", 0);
    box.meta = { done: match[1] !== " " };
    token.children.unshift(box);
    state.tokens[i - 2].attrJoin("class", "task");
  });
});
rules.task = (tokens, i) => {
  const { done } = tokens[i].meta;
  return `<input type="checkbox" disabled${done ? " checked" : ""} aria-label="${done ? "done" : "to do"}"> `;
};

// What may be wider than the page scrolls by itself, and by keyboard too.
const cell = (tokens, i, options, env, self) => {
  const token = tokens[i];
  // As a class, since the site's pages allow no style attributes.
  const align = token.attrGet("style")?.split(":")[1];
  if (align) token.attrs = [["class", align]];
  return self.renderToken(tokens, i, options);
};
rules.th_open = cell;
rules.td_open = cell;
rules.table_open = () => '<div class="table" role="region" aria-label="Table" tabindex="0"><table>\n';
rules.table_close = () => "</table></div>\n";
rules.fence = (tokens, i) => {
  const { content, info } = tokens[i];
  const language = markdown.utils.unescapeAll(info).trim().split(/[\s,{]/)[0];
  const label = language ? ` data-language="${escape(language)}"` : "";
  return `<pre tabindex="0"${label}><code>${highlight(content, language)}</code></pre>\n`;
};
rules.code_block = (tokens, i) => `<pre tabindex="0"><code>${escape(tokens[i].content)}</code></pre>\n`;
rules.image = (tokens, i, options, env, self) => {
  const token = tokens[i];
  token.attrSet("alt", self.renderInlineAsText(token.children, options, env));
  token.attrSet("loading", "lazy");
  return self.renderToken(tokens, i, options);
};

/**
 * Renders a page. `resolve` turns the target of a link or image into an address, or null where there is none.
 * Gives the HTML and every heading as {level, id, text}.
 */
export function render(source, resolve) {
  const headings = [];
  return { html: markdown.render(source, { headings, resolve }), headings };
}

const fence = /^ {0,3}(`{3,}|~{3,})/;

/** Calls `each` with every line and whether it is code in a fence. Stops where `each` gives true. */
function eachLine(source, each) {
  let open = null;
  source.split("\n").some((line) => {
    const mark = fence.exec(line)?.[1];
    const isFence = mark !== undefined && (open === null || mark.startsWith(open));
    if (isFence) open = open === null ? mark : null;
    return !isFence && each(line, open !== null);
  });
}

const headingLine = /^ {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?\s*$/;

/** The words of one line of Markdown. */
const words = (text) => (/[*_`~[<&\\]/.test(text) ? plain(markdown.parseInline(text, {})[0]) : text).trim();

/** The title of a page, which its beginning is enough for: the first heading of level one, or null. */
export function titleOf(source) {
  let title = null;
  eachLine(source, (line, isCode) => {
    const match = !isCode && headingLine.exec(line);
    if (match && match[1] === "#") title = words(match[2]) || null;
    return title !== null;
  });
  return title;
}

/**
 * A page cut at its headings: [{id, heading, text}], the first without a heading. The text is still Markdown but for
 * the addresses of links. By lines and not by grammar: a search reads every page, and needs no more than its words.
 */
export function sections(source) {
  const slug = slugger();
  const list = [{ id: "", heading: "", text: "" }];
  const shown = source.replace(/<!--[^]*?-->/g, "").replace(/\]\([^)\n]*\)/g, "]");
  eachLine(shown, (line, isCode) => {
    const match = isCode ? null : headingLine.exec(line);
    if (match) {
      const heading = words(match[2]);
      list.push({ id: slug(heading), heading, text: "" });
    } else {
      list[list.length - 1].text += `${line}\n`;
    }
  });
  return list;
}

/** Part of a section's text without the commonest markup, in one line. */
export function strip(text) {
  return text
    .replace(/^\s*(?:>\s?)+(?:\[![A-Z]+\])?|^\s*(?:[-*+]|\d+\.)\s+(?:\[[ x]\]\s)?|^[\s|:-]+$/gm, " ")
    .replace(/!?\[([^\]\n]*)\]/g, "$1")
    .replace(/\*\*|~~|`+|\|/g, "")
    .replace(/(?<!\w)[*_](\S[^*_\n]*)[*_](?!\w)/g, "$1")
    .replace(/\s+/g, " ")
    .trim();
}
