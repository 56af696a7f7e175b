// Numbers and times as people read them.

const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** 0.4, 12, 1,204, 12.4k, 3.1M. */
export function count(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e9) return `${trim(value / 1e9)}G`;
  if (size >= 1e6) return `${trim(value / 1e6)}M`;
  if (size >= 1e4) return `${trim(value / 1e3)}k`;
  if (size >= 10 || Number.isInteger(value)) return GROUPED.format(value);
  return trim(value);
}

function trim(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(1).replace(/\.0$/, "");
}

/** A duration in nanoseconds: 840 ns, 92 µs, 1.5 ms, 2.1 s. */
export function duration(nanoseconds: number): string {
  if (nanoseconds >= 1e9) return `${trim(nanoseconds / 1e9)} s`;
  if (nanoseconds >= 1e6) return `${trim(nanoseconds / 1e6)} ms`;
  if (nanoseconds >= 1e3) return `${trim(nanoseconds / 1e3)} µs`;
  return `${nanoseconds.toFixed(0)} ns`;
}

/** 512 B, 1.5 KiB, 155 MiB. */
export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const at = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, Math.abs(value))) / 10)));
  return `${trim(value / 1024 ** at)} ${units[at]}`;
}

/** A part of 1: 0.4 %, 12 %. */
export function percent(part: number): string {
  return `${trim(part * 100)} %`;
}

/** A time of day with milliseconds: 14:03:07.120. */
export function clock(milliseconds: number): string {
  const at = new Date(milliseconds);
  const two = (n: number): string => (n < 10 ? `0${n}` : `${n}`);
  const rest = at.getMilliseconds();
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${rest < 10 ? "00" : rest < 100 ? "0" : ""}${rest}`;
}

/** How long ago: 4 s, 12 min, 3 h, 2 d. */
export function ago(milliseconds: number, now = Date.now()): string {
  const seconds = Math.max(0, Math.round((now - milliseconds) / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** A digest as it is told apart at a glance: sha256:4f2a91c0. */
export function short(digest: string | null): string {
  if (!digest) return "not known";
  const [algorithm, hex = ""] = digest.split(":");
  return hex ? hex.slice(0, 8) : (algorithm ?? "").slice(0, 8);
}

/** `shop:catalog/items@1.2.0` without what is the same everywhere. */
export function brief(name: string): string {
  return name.replace(/@.*$/, "");
}

export function plural(value: number, one: string, more = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : more}`;
}
