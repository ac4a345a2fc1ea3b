// Where this page's other script did not come, it looks again by itself, as it does without scripts.
addEventListener("load", function () {
  if (!window.htmx && document.getElementById("reading")) {
    setTimeout(function () { location.reload(); }, 2000);
  }
});
