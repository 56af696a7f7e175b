// The WebSocket: what is told, what is asked for, and coming back after it was lost.

import type { Event, Hello, Told } from "./types.js";

/** How long an answer to a sign of life may take. */
const PATIENCE = 4_000;
const SLOWEST = 5_000;

export type Connection = "opening" | "open" | "lost" | "refused";

export interface Hears {
  hello(hello: Hello): void;
  events(events: Event[]): void;
  /** `again`: when it is tried again, in milliseconds since 1970. */
  connection(state: Connection, again: number): void;
}

interface Waits {
  resolve(value: unknown): void;
  reject(reason: Error): void;
}

export class Wire {
  #socket: WebSocket | null = null;
  #waiting = new Map<number, Waits>();
  #next = 1;
  #tries = 0;
  #timer = 0;
  #doubted = false;
  #token: string;
  #hears: Hears;

  constructor(token: string, hears: Hears) {
    this.#token = token;
    this.#hears = hears;
    // A machine that slept, a network that came back: no reason to wait any longer.
    addEventListener("online", () => this.#retry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#retry());
    void this.#open();
  }

  /** Asks for something, and returns the answer; the error says why there is none. */
  ask<T>(what: { do: string } & Record<string, unknown>, patience = 0): Promise<T> {
    const socket = this.#socket;
    if (!socket || socket.readyState !== WebSocket.OPEN) return Promise.reject(new Error("the connection is lost"));
    const id = this.#next++;
    socket.send(JSON.stringify({ id, ...what }));
    return new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      // A host that hangs keeps its connections: only an answer shows that it lives.
      if (patience) setTimeout(() => this.#waiting.has(id) && this.#lost(socket), patience);
    }) as Promise<T>;
  }

  /** Asks for the state, by which it also finds out whether anybody is there. */
  state<T>(): Promise<T> {
    return this.ask<T>({ do: "state" }, PATIENCE);
  }

  retry(): void {
    this.#tries = 0;
    this.#retry();
  }

  #retry(): void {
    if (!this.#timer) return;
    clearTimeout(this.#timer);
    void this.#open();
  }

  async #open(): Promise<void> {
    this.#timer = 0;
    const nonce = hex(crypto.getRandomValues(new Uint8Array(16)));
    let challenge: string;
    try {
      const answer = await fetch("/challenge", { signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(`${answer.status}`);
      challenge = await answer.text();
    } catch {
      return this.#again();
    }
    const rest = `${challenge} ${nonce} ${location.host}`;
    const expected = await code(this.#token, `server ${rest}`);
    const proof = await code(this.#token, `page ${rest}`);
    let opened = false;
    let known = false;
    const socket = new WebSocket(`ws://${location.host}/socket`, ["loop-page.1", `proof.${challenge}.${nonce}.${proof}`]);
    this.#socket = socket;
    socket.onopen = () => (opened = true);
    socket.onmessage = (message: MessageEvent<string>) => {
      if (socket !== this.#socket) return;
      const told = JSON.parse(message.data) as Told;
      // Whoever listens here now may be another: it is believed once it has shown that it knows the token too.
      known ||= "hello" in told && told.proof === expected;
      if (known) this.#hear(told);
      else this.#refused(socket);
    };
    socket.onclose = () => (opened ? this.#lost(socket) : this.#refused(socket));
  }

  #hear(told: Told): void {
    if ("events" in told) return this.#hears.events(told.events);
    if ("hello" in told) {
      this.#tries = 0;
      this.#doubted = false;
      this.#hears.connection("open", 0);
      return this.#hears.hello(told);
    }
    const waits = this.#waiting.get(told.id);
    this.#waiting.delete(told.id);
    if ("error" in told) waits?.reject(new Error(told.error));
    else waits?.resolve(told.ok);
  }

  /** The server is there, and does not take the token. Once can be by chance: it was just then started again. */
  #refused(socket: WebSocket): void {
    if (socket !== this.#socket) return;
    const first = !this.#doubted;
    this.#doubted = true;
    this.#lost(socket, first);
    if (!first) this.#hears.connection("refused", 0);
  }

  #lost(socket: WebSocket, again = true): void {
    if (socket !== this.#socket) return;
    this.#socket = null;
    socket.onclose = null;
    socket.close();
    for (const { reject } of this.#waiting.values()) reject(new Error("the connection is lost"));
    this.#waiting.clear();
    if (again) this.#again();
  }

  #again(): void {
    const wait = Math.min(SLOWEST, 250 * 2 ** this.#tries++);
    this.#hears.connection("lost", Date.now() + wait);
    this.#timer = setTimeout(() => void this.#open(), wait);
  }
}

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** HMAC-SHA256 under the token. */
async function code(token: string, text: string): Promise<string> {
  const bytes = new TextEncoder();
  const key = await crypto.subtle.importKey("raw", bytes.encode(token), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return hex(new Uint8Array(await crypto.subtle.sign("HMAC", key, bytes.encode(text))));
}
