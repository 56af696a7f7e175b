// What the server tells: the WIT of `loop:devserver`, as JSON.

export type Placement = "builtin" | "python" | "component" | "sidecar" | "remote";
export type Phase = "starting" | "ready" | "draining" | "stopped" | "failed";
export type Level = "trace" | "debug" | "info" | "warn" | "error";
export const LEVELS: readonly Level[] = ["trace", "debug", "info", "warn", "error"];
export const STEPS = ["encode", "session", "queue", "provider", "decode"] as const;
export type Step = (typeof STEPS)[number];

export interface About {
  name: string;
  folder: string;
  pid: number;
  instance: string;
  started: number;
  version: string;
  served: [string, string][];
}

export interface Member {
  name: string;
  kind: "component" | "provider";
  placement: Placement;
  transport: string;
  source: string;
  phase: Phase;
  generation: number;
  digest: string | null;
  pid: number | null;
  since: number;
  restarts: number;
  reason: string;
  "crash-loop": boolean;
}

export type Spent = Record<Step, number> & { calls: number };

export interface Traffic {
  calls: number;
  errors: number | null;
  busy: number;
  spent: Spent | null;
}

export interface Link {
  importer: string;
  interface: string;
  provider: string;
  grants: string[];
  traffic: Traffic | null;
}

export interface Series {
  origin: "host" | "component";
  name: string;
  instrument: "counter" | "gauge" | "histogram";
  unit: string;
  description: string;
  attributes: [string, string][];
  count: number;
  sum: number;
  last: number;
  min: number;
  max: number;
  /** Of a histogram: an upper bound, and how many values lie there. */
  buckets: [number, number][];
}

export interface Measured {
  series: Series[];
  lost: number;
}

export interface Line {
  is: "line";
  time: number;
  level: Level;
  source: string;
  target: string;
  message: string;
  fields: [string, string][];
}

export interface Place {
  file: string;
  line: number;
  column: number;
  excerpt: string;
}

export interface Build {
  is: "build";
  member: string;
  step: "begun" | "done" | "failed";
  milliseconds: number;
  output: string;
  places: Place[];
}

export interface Refusal {
  is: "refusal";
  time: number;
  importer: string;
  interface: string;
  what: string;
  proposal: string;
}

/** `start` in microseconds since 1970, and `fraction` nanoseconds more. */
export interface Span {
  is: "span";
  trace: string;
  id: string;
  parent: string;
  name: string;
  source: string;
  start: number;
  fraction: number;
  nanoseconds: number;
  error: string;
}

export type Event =
  | Line
  | Build
  | Refusal
  | Span
  | { is: "member"; member: Member }
  | { is: "lost"; count: number }
  | { is: "assets"; paths: string[] };

export interface State {
  about: About;
  members: Member[];
  links: Link[];
  measured: Measured;
}

export interface Command {
  name: string;
  summary: string;
  usage: string;
}

export interface Change {
  member: string;
  before: string;
  after: string;
}

export interface Hello extends State {
  /** Of the page's files: another value is another page. */
  hello: string;
  /** That the server knows the token. */
  proof: string;
}

export type Told =
  | Hello
  | { events: Event[] }
  | { id: number; ok: unknown }
  | { id: number; error: string };
