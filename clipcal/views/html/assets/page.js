// The page's numbers, its colours, and how numbers are written for people.
const D = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';

// Columns, which the page holds as base64 of little-endian numbers.
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const f32 = (text) => new Float32Array(bytes(text).buffer);
const f64 = (text) => new Float64Array(bytes(text).buffer);
const gaps = (values) => Array.from(values, (v) => (Number.isFinite(v) ? v : null));

const short = (v) => {
  if (v == null || !Number.isFinite(v)) return "–";
  const size = Math.abs(v);
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) return v.toExponential(1).replace(".0e", "e").replace("e+", "e");
  return String(Number(v.toPrecision(3)));
};
const count = (v) => Number(v).toLocaleString("en-US");
const percent = (v) => (v == null ? "–" : short(100 * v) + "%");
const signed = (v, write) => (v > 0 ? "+" : "") + write(v);

const element = (tag, className, text) => {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text != null) e.textContent = text;
  return e;
};
