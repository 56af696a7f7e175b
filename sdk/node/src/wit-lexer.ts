/** A WIT text that could not be read, with the place. */
export class WitError extends Error {
  override readonly name = 'WitError';
}

const SPACE = /(?:\s+|\/\/[^\n]*)+/y;
const IDENTIFIER = /%?[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*/y;
const VERSION = /\d+\.\d+\.\d+(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?/y;
const INTEGER = /\d+/y;

/** Reads WIT's tokens one at a time, so that the parser can say what it expects. */
export class Lexer {
  readonly #text: string;
  readonly #file: string;
  #pos = 0;

  constructor(text: string, file: string) {
    this.#text = text;
    this.#file = file;
    this.#skip();
  }

  /** An error at the current place. */
  error(message: string): WitError {
    const before = this.#text.slice(0, this.#pos).split('\n');
    const column = (before.at(-1) as string).length + 1;
    return new WitError(`${this.#file}:${before.length}:${column}: ${message}`);
  }

  get done(): boolean {
    return this.#pos >= this.#text.length;
  }

  /** Steps over `token` if it is next. A word is taken only as a whole. */
  take(token: string): boolean {
    if (!this.peek(token)) return false;
    this.#pos += token.length;
    this.#skip();
    return true;
  }

  peek(token: string): boolean {
    if (!this.#text.startsWith(token, this.#pos)) return false;
    const next = this.#text[this.#pos + token.length] ?? '';
    return !/^[a-z]/.test(token) || !/[A-Za-z0-9-]/.test(next);
  }

  expect(token: string): void {
    if (!this.take(token)) throw this.error(`\`${token}\` expected, ${this.#found()} found`);
  }

  /** An identifier without its `%`. */
  id(): string {
    const text = this.#match(IDENTIFIER);
    if (text === undefined) throw this.error(`a name expected, ${this.#found()} found`);
    return text.replace('%', '');
  }

  version(): string {
    const text = this.#match(VERSION);
    if (text === undefined) throw this.error(`a version like 0.1.0 expected, ${this.#found()} found`);
    return text;
  }

  integer(): number {
    const text = this.#match(INTEGER);
    if (text === undefined) throw this.error(`a number expected, ${this.#found()} found`);
    return Number(text);
  }

  /** Steps over everything up to the brace that closes the one that comes next. */
  skipBraces(): void {
    while (!this.done && !this.peek('{')) this.#step();
    let depth = 0;
    do {
      if (this.done) throw this.error('`}` expected, the end found');
      if (this.peek('{')) depth++;
      if (this.peek('}')) depth--;
      this.#step();
    } while (depth > 0);
  }

  #step(): void {
    this.#pos++;
    this.#skip();
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#pos;
    const text = pattern.exec(this.#text)?.[0];
    if (text !== undefined) {
      this.#pos += text.length;
      this.#skip();
    }
    return text;
  }

  #found(): string {
    return this.done ? 'the end' : `\`${this.#text.slice(this.#pos).split(/\s/, 1)[0]}\``;
  }

  #skip(): void {
    for (;;) {
      SPACE.lastIndex = this.#pos;
      const space = SPACE.exec(this.#text);
      if (space) this.#pos += space[0].length;
      else if (this.#text.startsWith('/*', this.#pos)) this.#block();
      else return;
    }
  }

  /** Block comments nest. */
  #block(): void {
    const start = this.#pos;
    let depth = 0;
    do {
      if (this.#pos >= this.#text.length) {
        this.#pos = start;
        throw this.error('a comment that is not closed');
      }
      const two = this.#text.slice(this.#pos, this.#pos + 2);
      if (two === '/*') depth++;
      if (two === '*/') depth--;
      this.#pos += two === '/*' || two === '*/' ? 2 : 1;
    } while (depth > 0);
  }
}
