// What each threshold would have clipped, and what it would have left of the learning rate.
const share = (place) => {
  const s = D.share;
  const items = [["norm", s.isStable ? "stable steps clipped" : "steps clipped"]];
  if (s.spikes) items.push(["spike", "spikes clipped"]);
  items.push(["loss", "mean scale left"]);
  if (s.corridor) items.push(["corridor", "corridor", "area"]);
  place.append(key(items));

  const now = element("div", "now");
  const tell = teller(now, (i) => {
    const spikes = s.spikes ? `, ${percent(s.spikes[i])} of the spikes` : "";
    const clips = `${D.label} ${short(s.thresholds[i])} clips ${percent(s.stable[i])} of the steps${spikes}`;
    return `${clips}, and leaves ${percent(s.scale[i])} of the rate`;
  });

  const under = (u) => {
    if (!s.corridor) return;
    const [low, high] = s.corridor.map((v) => xOf(u, v));
    inside(u, () => bar(u, low, high, null, null, colour("corridor")));
  };
  const over = (u) => uprights(u, s.marks);

  const line = (name, dash) => ({ stroke: colour(name), width: 2, dash, points: { show: false } });
  plot(
    place,
    {
      height: 260,
      cursor: { drag: { x: false, y: false } },
      scales: { x: logScale([s.thresholds[0], s.thresholds[s.thresholds.length - 1]]), y: { range: [0, 1.02] } },
      axes: [thresholdAxis(D.label), axis({ size: 48, values: (u, v) => v.map((x) => Math.round(100 * x) + "%") })],
      series: [{}, line("norm"), line("loss", [6, 3]), ...(s.spikes ? [line("spike")] : [])],
      hooks: { drawClear: [under], draw: [over], setCursor: [tell] },
    },
    [s.thresholds, s.stable, s.scale, ...(s.spikes ? [s.spikes] : [])],
    now,
  );
};
