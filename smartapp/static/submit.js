// The authorization request as a form (SMART "authorize-post"): sent by itself, or by its button without scripts.
document.getElementById("to-ehr").submit();
