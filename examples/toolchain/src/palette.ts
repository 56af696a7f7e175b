export type Colour = "red" | "blue";

export const names = ["red", "blue"] as const;

export default names as readonly Colour[];
