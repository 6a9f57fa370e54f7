// @ts-check
/** Numbers as people read them. */

/**
 * Milliseconds with three digits.
 * @param {number|null|undefined} value
 */
export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1000) return `${(value / 1000).toPrecision(3)} s`;
  if (value >= 100) return `${value.toFixed(0)} ms`;
  if (value >= 10) return `${value.toFixed(1)} ms`;
  return `${value.toFixed(2)} ms`;
}

/**
 * A size in bytes, as B, kB or MB.
 * @param {number} value
 */
export function size(value) {
  if (value < 1000) return `${value} B`;
  return value < 1e6 ? `${(value / 1e3).toFixed(1)} kB` : `${(value / 1e6).toFixed(1)} MB`;
}

/**
 * Requests in a second.
 * @param {number|null|undefined} value
 */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  return `${value >= 100 ? value.toFixed(0) : value.toFixed(1)}/s`;
}

/**
 * A number of a tensor; names of numbers that are not finite stay.
 * @param {number|string|null} value
 */
export function number(value) {
  if (typeof value !== "number") return String(value ?? "–");
  const magnitude = Math.abs(value);
  if (value === 0 || (magnitude >= 0.001 && magnitude < 1e6)) return String(Number(value.toPrecision(4)));
  return value.toExponential(2);
}

/**
 * Data in base64 as an address of a picture.
 * @param {{media_type: string, data: string}} image
 */
export function source(image) {
  return `data:${image.media_type};base64,${image.data}`;
}
