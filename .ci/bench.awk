# Turns the lines of the BenchmarkRatio benchmarks into one table; what is no such
# line, a failure above all, is passed through.
function row(what, ours, peer, ratio, aim) {
	table = table sprintf("%-48s %20s  %-52s %6s  %s\n", what, ours, peer, ratio, aim) }
BEGIN { row("what", "ours", "peer or limit", "ratio", "aim") }
/no test files|^(goos|goarch|pkg|PASS)|^BenchmarkRatio[^\t]*$/ { next }
/^cpu:/ && cpu++ { next }
/^ok/ { if (rows) print $2, $3; rows = 0; next }
!/^BenchmarkRatio/ { print; next }
{ rows++; what = $1; sub(/^BenchmarkRatio/, "", what); sub(/-[0-9]+$/, "", what);
  sub("/", ", ", what); gsub("_", " ", what); aim = "none set"; peer = "";
  for (i = 3; i < NF; i += 2) {
	value = $i + 0; unit = $(i+1); sub("-", " ", unit); split(unit, word, " ");
	if (word[1] == "ours") ours = value " " word[2];
	else if (word[1] == "ratio") ratio = value;
	else if (word[1] == "aim") { least = word[2] == "min"; bound = value; aim = "" }
	else peer = peer (peer == "" ? "" : ", ") value " " word[2] " " word[1] }
  if (aim == "") aim = (least ? ">= " : "<= ") bound ((least ? ratio >= bound : ratio <= bound) ? "" : "  MISSED");
  row(what, ours, peer, sprintf("%.2f", ratio), aim) }
END { printf "\n%s", table }
