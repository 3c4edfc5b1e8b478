// Ranges of numbers -> the scales and axes of a chart.

// Round numbers on a log axis, as many as there is room for.
const logTicks = (low, high, most) => {
  const within = (digits) => {
    const found = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const d of digits) {
        const v = Number(`${d}e${e}`);
        if (v >= low && v <= high) found.push(v);
      }
    return found;
  };
  if (high / low < 6) {
    for (const step of [0.05, 0.1, 0.2, 0.5, 1, 2].map((s) => s * 10 ** Math.floor(Math.log10(low)))) {
      const found = [];
      for (let i = Math.ceil(low / step); i * step <= high; i++) found.push(Number((i * step).toPrecision(12)));
      if (found.length >= 2 && found.length <= most) return found;
    }
  }
  for (const digits of [[1, 2, 5], [1, 3], [1]]) {
    const found = within(digits);
    if (found.length <= most) return found;
  }
  const decades = within([1]);
  const skip = Math.ceil(decades.length / Math.max(most, 2));
  return decades.filter((_, i) => i % skip === 0);
};

const logScale = (range) => ({ distr: 3, log: 10, range: () => range, time: false });
const axis = (more) => ({
  stroke: colour("soft"),
  font: FONT,
  labelFont: FONT,
  grid: { stroke: colour("grid"), width: 1 },
  ticks: { stroke: colour("line"), width: 1, size: 4 },
  gap: 4,
  ...more,
});
const logAxis = (more, space) =>
  axis({
    splits: (u, i, low, high) => {
      const along = u.axes[i].side % 2 ? u.bbox.height : u.bbox.width;
      return logTicks(low, high, Math.max(Math.floor(along / devicePixelRatio / (space || 28)), 2));
    },
    values: (u, splits) => splits.map(short),
    filter: (u, splits) => splits,
    ...more,
  });
const whole = (u, splits) => splits.map((v) => (Number.isInteger(v) ? count(v) : ""));

// Of the charts above each other, the last one names the steps for all.
const stepAxis = (last) => {
  if (!last) return axis({ values: (u, splits) => splits.map(() => ""), size: 8 });
  return axis({ values: whole, size: 30, label: "optimizer step", labelSize: 18 });
};
// A narrow page has no room for a label beside the numbers.
const normAxis = (label, narrow) => logAxis({ label: narrow ? undefined : label, labelSize: 18, size: 48 });
const thresholdAxis = (label) => logAxis({ size: 30, label, labelSize: 18 }, 48);

const lossScale = (r) => (r.log ? logScale(r.range) : { range: () => r.range });
const lossAxis = (r, narrow) => {
  if (r.log) return normAxis("loss", narrow);
  const values = (u, splits) => splits.map(short);
  return axis({ label: narrow ? undefined : "loss", labelSize: 18, size: 48, values, space: 30 });
};
