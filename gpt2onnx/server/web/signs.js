// How tokens are written, as on the page of `gpt2onnx trace` (gpt2onnx/page/text.py).

// From a probability of the one before on: a colour and an underline each.
const BOUNDS = [0.01, 0.1, 0.5, 0.9];
const SIGNS = { "\n": "⏎", "\t": "⇥", "\r": "␍", "\x7f": "␡" };
const NAMES = { "␣": "space", "⏎": "line end", "⇥": "tab", "␍": "return", "∅": "nothing" };
// At a border of the token or of a line, or several.
const SPACES = /^ +| +$|(?<=\n) +| {2,}/gm;
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

// A token, with signs for what can't be seen: line ends, spaces but those in a line.
export function visible(text) {
  return [...text.replace(SPACES, spaces)].map(sign).join("") || "∅";
}

// The same for the ear: signs that are not read aloud, by their names.
export function spoken(text) {
  const named = visible(text).replace(/[␣⏎⇥␍∅]/g, (found) => ` ${NAMES[found]} `);
  return named.replace(/ +/g, " ").trim();
}

// A token for the eye, and the same for the ear.
export function shownToken(name) {
  const code = document.createElement("code"), said = document.createElement("span");
  code.textContent = visible(name);
  code.ariaHidden = "true";
  said.className = "said";
  said.textContent = `${spoken(name)} `;
  return [code, said];
}

// A part of a text: spaces stay, and a line's end is shown and kept.
export function flowing(text) {
  return [...text].map((each) => (each === "\n" ? "⏎\n" : sign(each))).join("");
}

// What rounds to nothing is told from what is nothing.
export function percent(logprob) {
  const probability = Math.exp(logprob);
  const shown = (100 * probability).toFixed(2);
  return `${probability && shown === "0.00" ? "<0.01" : shown}\u00a0%`;
}

// The class of a probability's colour.
export function level(logprob) {
  const probability = Math.exp(logprob);
  return `p${BOUNDS.filter((bound) => probability >= bound).length}`;
}

// A token's text by its name in an answer; of bytes that are no text, none.
export function textOf(name) {
  return /^bytes:(\\x[0-9a-f]{2})+$/.test(name) ? "" : name;
}

function spaces(found) {
  return found.length < 4 ? "␣".repeat(found.length) : `␣×${found.length}`;
}

function sign(character) {
  if (SIGNS[character]) return SIGNS[character];
  const code = character.codePointAt(0);
  if (code < 32) return String.fromCodePoint(0x2400 + code);
  if (UNSEEN.test(character)) return `[U+${code.toString(16).toUpperCase().padStart(4, "0")}]`;
  return character;
}
