// A form that says with data-pressed what is under way: shown as soon as it was sent, until the answer comes.
addEventListener("submit", function (event) {
  var sign = event.target.dataset.pressed && document.getElementById(event.target.dataset.pressed);
  if (!sign) return;
  sign.hidden = false;
  event.target.querySelectorAll("button").forEach(function (button) { button.setAttribute("aria-disabled", "true"); });
});
addEventListener("pageshow", function () {
  document.querySelectorAll("form[data-pressed]").forEach(function (form) {
    document.getElementById(form.dataset.pressed).hidden = true;
    form.querySelectorAll("button").forEach(function (button) { button.removeAttribute("aria-disabled"); });
  });
});
