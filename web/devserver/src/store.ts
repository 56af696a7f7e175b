// All that the page knows. Views read it once a frame, at most.

import type { About, Build, Command, Event, Hello, Line, Link, Measured, Member, Refusal, Series, Span, State } from "./types.js";

const LINES = 100_000;
const TRACES = 300;
const SPANS = 400;
const SAMPLES = 120;
const REFUSALS = 500;

export interface Refused extends Refusal {
  count: number;
}

export interface Trace {
  id: string;
  spans: Span[];
  /** Microseconds since 1970. */
  start: number;
  end: number;
  failed: boolean;
}

/** What a link did, until some moment. */
interface Sample {
  time: number;
  links: Map<string, Link>;
  lines: number;
  measured: Map<string, Series>;
}

export interface Rate {
  /** Calls a second. */
  calls: number;
  errors: number;
  /** Nanoseconds of a call. */
  mean: number;
}

/** The newest lines, each with a number of its own that goes on for ever. */
export class Lines {
  #ring: Line[] = [];
  /** The number of the oldest line that is kept, and of the next one. */
  first = 0;
  next = 0;

  push(line: Line): void {
    this.#ring[this.next++ % LINES] = line;
    if (this.next - this.first > LINES) this.first++;
  }

  at(number: number): Line | undefined {
    return number >= this.first && number < this.next ? this.#ring[number % LINES] : undefined;
  }

  clear(): void {
    this.#ring = [];
    this.first = this.next;
  }
}

export const keyOf = (link: Link): string => `${link.importer}\n${link.interface}\n${link.provider}`;
export const seriesKey = (series: Series): string => `${series.origin}\n${series.instrument}\n${series.name}\n${series.attributes.join("\n")}`;

export type Part = "about" | "members" | "links" | "lines" | "traces" | "refusals" | "builds" | "measured";

export class Store {
  about: About | null = null;
  members = new Map<string, Member>();
  links: Link[] = [];
  measured: Measured = { series: [], lost: 0 };
  commands: Command[] = [];
  lines = new Lines();
  sources = new Set<string>();
  traces = new Map<string, Trace>();
  refusals = new Map<string, Refused>();
  builds = new Map<string, Build & { again?: boolean }>();
  lost = 0;
  samples: Sample[] = [];
  errors = 0;
  /** How often all began anew. */
  epoch = 0;

  #changed = new Set<Part>();
  #wake: () => void;

  /** `wake` is called when something has changed. */
  constructor(wake: () => void) {
    this.#wake = wake;
  }

  /** What has changed since it was asked last. */
  changes(): Set<Part> {
    const changed = this.#changed;
    this.#changed = new Set();
    return changed;
  }

  hello(hello: Hello): void {
    // The history comes again: what was known is of before.
    this.lines.clear();
    this.sources.clear();
    this.traces.clear();
    this.refusals.clear();
    this.builds.clear();
    this.samples = [];
    this.epoch++;
    this.errors = this.lost = 0;
    this.commands = [];
    for (const part of ["about", "lines", "traces", "refusals", "builds"] as const) this.#touch(part);
    this.state(hello);
  }

  state(state: State): void {
    this.about = state.about;
    this.members = new Map(state.members.map((member) => [member.name, member]));
    this.links = state.links;
    this.measured = state.measured;
    this.samples.push({
      time: performance.now(),
      links: new Map(state.links.map((link) => [keyOf(link), link])),
      lines: this.lines.next,
      measured: new Map(state.measured.series.map((series) => [seriesKey(series), series])),
    });
    if (this.samples.length > SAMPLES) this.samples.shift();
    for (const part of ["about", "members", "links", "measured"] as const) this.#touch(part);
  }

  events(events: Event[]): void {
    for (const event of events) this.#event(event);
  }

  #event(event: Event): void {
    switch (event.is) {
      case "line":
        this.lines.push(event);
        if (event.level === "error") this.errors++;
        if (this.sources.size < 1_000) this.sources.add(event.source);
        return this.#touch("lines");
      case "span":
        this.#span(event);
        return this.#touch("traces");
      case "member":
        this.members.set(event.member.name, event.member);
        return this.#touch("members");
      case "build": {
        // What failed is shown until it is mended, also while it is tried again.
        const before = this.builds.get(event.member);
        const again = event.step === "begun" && before?.step === "failed";
        this.builds.set(event.member, again ? { ...before, again } : event);
        return this.#touch("builds");
      }
      case "refusal": {
        const key = `${event.importer}\n${event.interface}\n${event.what}`;
        const before = this.refusals.get(key);
        this.refusals.delete(key);
        this.refusals.set(key, { ...event, count: (before?.count ?? 0) + 1 });
        if (this.refusals.size > REFUSALS) this.refusals.delete(this.refusals.keys().next().value as string);
        return this.#touch("refusals");
      }
      case "lost":
        this.lost += event.count;
        return this.#touch("lines");
      case "assets": // of the pages that the workspace serves, not of this one
    }
  }

  #span(span: Span): void {
    let trace = this.traces.get(span.trace);
    if (!trace) {
      trace = { id: span.trace, spans: [], start: Infinity, end: 0, failed: false };
      this.traces.set(span.trace, trace);
      if (this.traces.size > TRACES) this.traces.delete(this.traces.keys().next().value as string);
    }
    if (trace.spans.length >= SPANS) return;
    trace.spans.push(span);
    const start = begin(span);
    trace.start = Math.min(trace.start, start);
    trace.end = Math.max(trace.end, start + span.nanoseconds / 1e3);
    trace.failed ||= span.error !== "";
  }

  #touch(part: Part): void {
    this.#changed.add(part);
    this.#wake();
  }

  /** What a link does now: since up to `back` samples ago. */
  rate(link: Link, back = 5): Rate | null {
    const { now, before } = this.#between(back);
    const last = now?.links.get(keyOf(link))?.traffic;
    const first = before?.links.get(keyOf(link))?.traffic;
    if (!last) return null;
    if (!first || !now || !before || now === before) {
      return { calls: 0, errors: 0, mean: last.calls ? last.busy / last.calls : 0 };
    }
    const seconds = (now.time - before.time) / 1000;
    const calls = Math.max(0, last.calls - first.calls);
    return {
      calls: calls / seconds,
      errors: Math.max(0, (last.errors ?? 0) - (first.errors ?? 0)) / seconds,
      mean: calls ? (last.busy - first.busy) / calls : last.calls ? last.busy / last.calls : 0,
    };
  }

  /** Two moments, the later of them now. */
  #between(back: number): { now: Sample | undefined; before: Sample | undefined } {
    const now = this.samples.at(-1);
    return { now, before: this.samples.at(-1 - back) ?? this.samples[0] };
  }

  /** One value for each two moments that follow each other. */
  history(value: (now: Sample, before: Sample, seconds: number) => number): number[] {
    const values = [];
    for (let at = 1; at < this.samples.length; at++) {
      const now = this.samples[at]!;
      const before = this.samples[at - 1]!;
      values.push(value(now, before, Math.max(0.05, (now.time - before.time) / 1000)));
    }
    return values;
  }
}

/** When a span began, in microseconds since 1970. */
export const begin = (span: Span): number => span.start + span.fraction / 1e3;
