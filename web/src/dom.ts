// New elements of the document; a text in them is never markup.

export const number = (value: number): string => value.toLocaleString("en");

/** A new element with a text in it. */
export function made<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  text = "",
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}

export function button(text: string, act: () => void): HTMLButtonElement {
  const node = made("button", text);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

export function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
