// What tests measure in a page (tests/support/seen_page.py). Each function answers with lines, one a fault.
(() => {
  const shown = (selector) =>
    [...document.querySelectorAll(selector)].filter(
      (one) => one.offsetParent !== null && one.type !== "hidden" && !one.disabled && !one.classList.contains("skip"),
    );
  const named = (one) => `${one.tagName.toLowerCase()} "${(one.textContent.trim() || one.name || one.id).slice(0, 50)}"`;

  const axeFaults = async (tags) => {
    const { violations } = await axe.run(document, { runOnly: tags, resultTypes: ["violations"] });
    return violations.flatMap((rule) =>
      rule.nodes.map((node) => {
        const why = [...node.any, ...node.all, ...node.none].map((check) => check.message).join("; ");
        return `${rule.id} (${rule.impact}): ${node.html.slice(0, 200)}: ${why.slice(0, 300)}`;
      }),
    );
  };

  const smallTargets = (least) =>
    shown("a, button, summary, input, select, textarea")
      .map((one) => [one, one.getBoundingClientRect()])
      .filter(([, box]) => box.width && (box.width < least || box.height < least))
      .map(([one, box]) => `too small to hit: ${named(one)}: ${box.width.toFixed(1)} x ${box.height.toFixed(1)}`);

  const sideways = () => {
    const { scrollWidth, clientWidth } = document.documentElement;
    return scrollWidth > clientWidth ? [`scrolls sideways: ${scrollWidth} in ${clientWidth}`] : [];
  };

  // Colours, as they are painted one over the other.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const painted = (...colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of ["white", ...colours]) {
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  };
  const luminance = (parts) =>
    parts
      .map((part) => part / 255)
      .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
      .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const contrast = (one, other) => {
    const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const grounds = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.unshift(getComputedStyle(one).backgroundColor);
    return layers;
  };

  const weakRings = (least) =>
    shown("a[href], button, summary, input, select, textarea, [tabindex]").flatMap((one) => {
      one.focus({ preventScroll: true, focusVisible: true });
      if (document.activeElement !== one) return [];
      const style = getComputedStyle(one);
      if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) return [`no focus ring: ${named(one)}`];
      const around = grounds(one.parentElement);
      const found = contrast(painted(...around, style.outlineColor), painted(...around));
      one.blur();
      return found < least ? [`focus ring ${found.toFixed(2)}:1: ${named(one)}`] : [];
    });

  window.seenPage = { axeFaults, smallTargets, sideways, weakRings };
})();
