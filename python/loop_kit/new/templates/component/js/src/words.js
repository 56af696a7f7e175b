// What `interface words` in wit/words.wit promises.

export const words = {
  count(text) {
    const counts = new Map();
    for (const word of text.split(/\s+/).filter(Boolean)) counts.set(word, (counts.get(word) ?? 0) + 1);
    return [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  },
};
