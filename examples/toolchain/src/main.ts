import palette, { type Colour } from "./palette";
import { area, type Shape } from "./shapes";
import words from "./words.json";

export * from "./palette";
export { area as size } from "./shapes";

export enum Level {
  Low,
  High = 5,
}

export class Figure<T extends Shape> {
  static count = 0;
  readonly label: string;

  constructor(
    private readonly shape: T,
    public colour: Colour = palette[0]!,
  ) {
    this.label = `${words.figure} ${++Figure.count}`;
  }

  describe(): string {
    return `${this.label}: ${this.colour}, ${area(this.shape)?.toFixed(2) ?? words.none}`;
  }
}

export default function main(): string[] {
  const figures = [new Figure({ kind: "circle", radius: 1 }), new Figure({ kind: "square", side: 2 }, "blue")];
  return [...figures.map((figure) => figure.describe()), `${Level[Level.High]} ${Level.High satisfies number}`];
}
