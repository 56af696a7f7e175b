// Elements and text: all that the page needs of a framework.

type Child = Node | string | number | null | undefined | false | Child[];
type Props = Record<string, unknown>;

const SVG = "http://www.w3.org/2000/svg";

function fill(element: Element, props: Props, children: Child[]): void {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value as EventListener);
    else if (name === "value" || name === "checked") (element as never as Props)[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
}

function append(element: Element, children: Child[]): void {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child || child === 0) element.append(child instanceof Node ? child : String(child));
  }
}

/** An element. Props are attributes, and `onclick` and its like listeners. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  fill(element, props, children);
  return element;
}

/** The same in SVG. */
export function s<K extends keyof SVGElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): SVGElementTagNameMap[K] {
  const element = document.createElementNS(SVG, tag);
  fill(element, props, children);
  return element;
}

/** Sets text where it differs, so that nothing is laid out again for nothing. */
export function text(element: Element, value: string): void {
  if (element.textContent !== value) element.textContent = value;
}

export function attribute(element: Element, name: string, value: string | null): void {
  if (element.getAttribute(name) === value) return;
  if (value === null) element.removeAttribute(name);
  else element.setAttribute(name, value);
}

/** A sentence whose names stand in backticks. */
export const sentence = (value: string): Child[] => value.split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));

/** Has `parent` hold one element for each item, in order; those that stay are the same elements as before. */
export function keyed<T, E extends Element>(
  parent: Element,
  items: readonly T[],
  key: (item: T) => string,
  create: (item: T) => E,
  update: (element: E, item: T) => void,
): void {
  const known = (kept.get(parent) ?? new Map()) as Map<string, E>;
  const next = new Map<string, E>();
  let at: Element | null = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const element = known.get(name) ?? create(item);
    next.set(name, element);
    update(element, item);
    if (at === element) at = element.nextElementSibling;
    else parent.insertBefore(element, at);
  }
  for (const [name, element] of known) if (next.get(name) !== element) element.remove();
  kept.set(parent, next);
}
const kept = new WeakMap<Element, Map<string, Element>>();

const ICONS = {
  graph: "M5 6a2 2 0 1 0 0-.01M19 6a2 2 0 1 0 0-.01M12 18a2 2 0 1 0 0-.01M7 6h10M6 8l5 8M18 8l-5 8",
  logs: "M4 6h16M4 10h10M4 14h16M4 18h7",
  traces: "M4 6h9M7 10h10M10 14h6M13 18h7",
  latency: "M4 18V10h4v8M10 18V5h4v13M16 18v-6h4v6M3 18h18",
  metrics: "M3 17l5-6 4 4 8-9M15 6h5v5",
  grants: "M12 3l7 3v5c0 5-3 8-7 10-4-2-7-5-7-10V6zM9 11l2 2 4-4",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l5 5",
  theme: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  restart: "M20 11a8 8 0 1 0-2 6M20 4v7h-7",
  swap: "M7 4L3 8l4 4M3 8h14M17 12l4 4-4 4M21 16H7",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  pause: "M8 5v14M16 5v14",
  play: "M7 4l13 8-13 8z",
  open: "M14 4h6v6M20 4l-9 9M18 14v6H4V6h6",
  stop: "M6 6h12v12H6z",
  list: "M4 6h16M4 12h16M4 18h16",
  group: "M4 8h12v12H4zM8 4h12v12",
} as const;
export type Icon = keyof typeof ICONS;

export function icon(name: Icon): SVGSVGElement {
  return s("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, s("path", { d: ICONS[name] }));
}

export function button(label: string, onclick: () => void, props: Props & { icon?: Icon } = {}): HTMLButtonElement {
  const { icon: glyph, ...rest } = props;
  const hidden = rest["class"] === "quiet" && glyph;
  return h(
    "button",
    { type: "button", onclick, ...(hidden ? { "aria-label": label, title: label } : {}), ...rest },
    glyph && icon(glyph),
    !hidden && h("span", {}, label),
  );
}
