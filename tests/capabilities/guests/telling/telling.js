import { log } from "loop:core/log@0.1.0";
import { Counter, Histogram } from "loop:core/metrics@0.1.0";
import { Span, current as now } from "loop:core/trace@0.1.0";
import { go } from "test:telling/next";

const text = (key, val) => ({ key, value: { tag: "text", val } });
const about = { unit: "By", description: "what was said" };

export function work(words) {
  const span = new Span(`work ${words}`, "client", [text("words", words)]);
  new Counter("words", about).add(1, [text("first", words[0])]);
  new Histogram("length", about).record(words.length, []);
  log("info", "telling", "on it", [["words", words]]);
  span.addEvent("asked", [{ key: "times", value: { tag: "integer", val: 1 } }]);
  try {
    const answer = go(words);
    span.setStatus({ tag: "ok" });
    return answer;
  } catch (error) {
    span.setStatus({ tag: "error", val: "the next one failed" });
    throw error;
  } finally {
    span.end();
  }
}

export const current = () => now()?.traceparent;

export function crossed() {
  const ids = () => now()?.traceparent;
  const first = new Span("first", "internal", []);
  const second = new Span("second", "internal", []);
  const seen = [first.context().traceparent, second.context().traceparent, ids()];
  first.end();
  seen.push(ids());
  second.end();
  seen.push(ids() ?? "");
  return seen;
}
