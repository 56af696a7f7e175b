// What views share.

import type { Part, Store } from "./store.js";
import type { Wire } from "./wire.js";

export interface View {
  readonly root: HTMLElement;
  /** Shows what changed. `parts` has everything when the view comes up. */
  update(parts: Set<Part>): void;
  /** Takes what another view hands over: a text to search for. */
  focus?(what: string): void;
}

export interface App {
  readonly store: Store;
  readonly wire: Wire;
  selected: string | null;
  select(member: string | null): void;
  go(view: string, what?: string): void;
  restart(member: string): void;
  swap(member: string): void;
  /** Says something for some seconds, or until what it returns is called. */
  toast(message: string, kind?: "good" | "bad"): () => void;
  copy(text: string, what: string): void;
}
