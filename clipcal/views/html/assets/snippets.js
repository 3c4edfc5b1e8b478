// The snippets: one is shown, the one of the framework that is chosen, and can be copied.
const framework = document.getElementById("framework");
if (framework) {
  framework.addEventListener("change", () => {
    for (const { value } of framework.options) document.getElementById(`snippet-${value}`).hidden = value !== framework.value;
  });
  const copy = document.getElementById("copy");
  copy.addEventListener("click", async () => {
    const code = document.getElementById(`snippet-${framework.value}`);
    let done = true;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      // a page from a file may not write to the clipboard everywhere
      const selection = getSelection();
      selection.selectAllChildren(code);
      done = document.execCommand("copy");
    }
    copy.textContent = done ? "Copied" : "Press Ctrl-C";
    setTimeout(() => (copy.textContent = "Copy"), 1600);
  });
}
