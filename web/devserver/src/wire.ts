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
  #token: string;
  #hears: Hears;

  constructor(token: string, hears: Hears) {
    this.#token = token;
    this.#hears = hears;
    // A machine that slept, a network that came back: no reason to wait any longer.
    addEventListener("online", () => this.#retry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#retry());
    this.#open();
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
    this.#open();
  }

  #open(): void {
    this.#timer = 0;
    let opened = false;
    const socket = new WebSocket(`ws://${location.host}/socket`, ["loop-page.1", `token.${this.#token}`]);
    this.#socket = socket;
    socket.onopen = () => (opened = true);
    socket.onmessage = (message: MessageEvent<string>) => {
      if (socket === this.#socket) this.#hear(JSON.parse(message.data) as Told);
    };
    socket.onclose = () => void (opened ? this.#lost(socket) : this.#refused(socket));
  }

  #hear(told: Told): void {
    if ("events" in told) return this.#hears.events(told.events);
    if ("hello" in told) {
      this.#tries = 0;
      this.#hears.connection("open", 0);
      return this.#hears.hello(told);
    }
    const waits = this.#waiting.get(told.id);
    this.#waiting.delete(told.id);
    if ("error" in told) waits?.reject(new Error(told.error));
    else waits?.resolve(told.ok);
  }

  /** A browser does not tell why: a file that is there says that the server is, and so that the token is not right. */
  async #refused(socket: WebSocket): Promise<void> {
    const there = await fetch("/page.css", { method: "HEAD" }).then((it) => it.ok, () => false);
    if (!there || this.#tries > 0) return this.#lost(socket);
    this.#tries++;
    if (socket === this.#socket) this.#hears.connection("refused", 0);
    this.#lost(socket, "refused");
  }

  #lost(socket: WebSocket, as: Connection = "lost"): void {
    if (socket !== this.#socket) return;
    this.#socket = null;
    socket.onclose = null;
    socket.close();
    for (const { reject } of this.#waiting.values()) reject(new Error("the connection is lost"));
    this.#waiting.clear();
    if (as === "refused") return;
    const wait = Math.min(SLOWEST, 250 * 2 ** this.#tries++);
    this.#hears.connection("lost", Date.now() + wait);
    this.#timer = setTimeout(() => this.#open(), wait);
  }
}
