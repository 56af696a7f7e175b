// HTML that is safe by default: whatever is put into html`…` is escaped, unless it is Html itself.

const entities = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

export function escape(text) {
  return String(text).replace(/[&<>"']/g, (char) => entities[char]);
}

/** Markup that needs no more escaping. */
class Html {
  constructor(text) {
    this.text = text;
  }
  toString() {
    return this.text;
  }
}

/** Vouches for a string: it is markup, not text. */
export const raw = (text) => new Html(text);

const fill = (value) => {
  if (value instanceof Html) return value.text;
  if (Array.isArray(value)) return value.map(fill).join("");
  return value === null || value === undefined || value === false ? "" : escape(value);
};

export function html(strings, ...values) {
  return raw(strings.reduce((text, part, i) => text + fill(values[i - 1]) + part));
}
