// Ranked full-text search over the pages' sections. Pure: it is given the text and gives what to show.

import { escape, raw } from "./html.js";
import { sections, strip } from "./render.js";

// Characters are folded one by one and only where the length stays, so that places in the folded text are places in
// the text itself.
const fold = (text) => text.replace(/[^\0-\x7f]/g, foldChar).toLowerCase();

function foldChar(char) {
  const folded = char.normalize("NFKD").replace(/\p{M}/gu, "");
  return folded.length === 1 ? folded : char;
}

/** The distinct words of a query, folded; quotes and punctuation only separate. */
export function termsOf(query) {
  return [...new Set(fold(query).match(/[\p{L}\p{N}]+/gu) ?? [])].slice(0, 8);
}

const inWord = /[\p{L}\p{N}]/u;

/** Where a term stands in a folded text, at the start of a word: "stream" in "streams", "fsx" in "loop:fsx". */
function places(folded, term) {
  const found = [];
  for (let at = folded.indexOf(term); at >= 0; at = folded.indexOf(term, at + term.length)) {
    if (at === 0 || !inWord.test(folded[at - 1])) found.push(at);
  }
  return found;
}

// What a match is worth by where it stands, and how soon more of the same stops counting.
const weights = { title: 10, heading: 4, text: 1 };
const saturate = (count, length) => (count * 2.2) / (count + 1.2 * (0.25 + length / 2000));

/**
 * Searches `pages` ({path, title, source}, the source being Markdown) for all words of a query. Gives `total`, and the
 * best `limit` pages in order as {path, title, section: {id, heading}, excerpt}, the words marked in `excerpt`.
 */
export function search(pages, query, limit = 30) {
  const terms = termsOf(query);
  if (terms.length === 0) return { total: 0, results: [] };
  const folded = pages.map(({ title, source }) => fold(`${title}\n${source}`));
  // A word that few pages have says more.
  const rarity = terms.map((term) => {
    const having = folded.filter((text) => text.includes(term)).length;
    return Math.log(1 + pages.length / (1 + having));
  });
  const found = pages
    .filter((_, i) => terms.every((term) => folded[i].includes(term)))
    .map((page) => ({
      page,
      title: count(fold(page.title), terms),
      sections: sections(page.source).map((section) => scan(section, terms, page.title)),
    }))
    // What has the words in its source may have them in an address or a comment alone.
    .filter(({ title, sections }) => terms.every((_, i) => title[i] || sections.some((s) => s.heading[i] || s.text[i])));
  const sum = (counts, length, weight) =>
    counts.reduce((total, n, i) => total + weight * rarity[i] * saturate(n, length), 0);
  const results = found
    .map(({ page, title, sections }) => {
      const scored = sections.map((s) => {
        // All of the words in one place are worth more than each in its own.
        const share = terms.filter((_, i) => s.heading[i] || s.text[i]).length / terms.length;
        const score = sum(s.heading, 0, weights.heading) + sum(s.text, s.section.text.length, weights.text);
        return { ...s, score: share * score };
      });
      const best = scored.reduce((a, b) => (b.score > a.score ? b : a));
      const score = sum(title, 0, weights.title) + best.score + 0.1 * scored.reduce((total, s) => total + s.score, 0);
      return { page, section: best.section, score };
    })
    .sort((a, b) => b.score - a.score || (a.page.path < b.page.path ? -1 : 1))
    .slice(0, limit)
    .map(({ page: { path, title }, section: { id, heading, text } }) => {
      return { path, title, section: { id, heading }, excerpt: excerpt(text, terms) };
    });
  return { total: found.length, results };
}

function scan(section, terms, title) {
  // The title heads a section of its own, and counts already.
  const heading = section.heading === title ? "" : section.heading;
  return { section, heading: count(fold(heading), terms), text: count(fold(section.text), terms) };
}

/** How often each term stands in a folded text. */
function count(folded, terms) {
  return terms.map((term) => places(folded, term).length);
}

/** Some words of a section around the place with the most terms, with every match marked. */
export function excerpt(text, terms, width = 220) {
  const folded = fold(text);
  const found = terms.map((term) => places(folded, term).slice(0, 100));
  const near = (start) => found.filter((each) => each.some((place) => place >= start && place < start + width)).length;
  const place = found.flat().reduce((a, b) => (near(b) > near(a) ? b : a), 0);
  // Markup is taken out of a part that is surely long enough, and that is then cut between words.
  const from = Math.max(0, place - 80);
  const part = text.slice(from, place + 2 * width);
  let line = strip(from > 0 ? part.slice(part.search(/\s/) + 1) : part);
  const isCut = line.length > width;
  if (isCut) line = line.slice(0, Math.max(line.lastIndexOf(" ", width), 1));
  return raw((from > 0 ? "… " : "") + mark(line, terms) + (isCut || place + 2 * width < text.length ? " …" : ""));
}

/** The text as HTML with each match in a <mark>, up to the end of its word. */
function mark(text, terms) {
  const folded = fold(text);
  const starts = [...new Set(terms.flatMap((term) => places(folded, term)))].sort((a, b) => a - b);
  let out = "";
  let at = 0;
  for (const start of starts) {
    const end = start + /^[\p{L}\p{N}]*/u.exec(text.slice(start))[0].length;
    out += `${escape(text.slice(at, start))}<mark>${escape(text.slice(start, end))}</mark>`;
    at = end;
  }
  return out + escape(text.slice(at));
}

/** The pages whose address or title shares most with some words: what someone may have meant. */
export function suggest(pages, words, limit = 3) {
  const terms = termsOf(words);
  const score = ({ title, path }) => {
    const folded = fold(`${title} ${path}`);
    return terms.filter((term) => folded.includes(term)).length;
  };
  return pages
    .map((page) => ({ page, score: score(page) }))
    .filter(({ score }) => score > 0)
    .sort((a, b) => b.score - a.score)
    .slice(0, limit)
    .map(({ page }) => page);
}
