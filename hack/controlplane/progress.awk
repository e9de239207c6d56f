# Reads what "go build -v" writes for several programs, and writes one progress for all of them.
# Variables: total is the number of packages to compile, clock a command that prints the seconds since some moment.

function now(    seconds) {
	clock | getline seconds
	close(clock)
	return seconds
}

function left(seconds) {
	return seconds < 60 ? "less than a minute" : sprintf("about %d min", (seconds + 59) / 60)
}

BEGIN { if (clock == "") clock = "date +%s"; begun = now() }

# The caller's own line after each program.
/^built / { printf "  %s: built\n", $2; fflush(); next }
/^go: / { next }

{ n++ }
n % 100 == 0 && n < total {
	printf "  %d of %d packages compiled, %s left\n", n, total, left((now() - begun) * (total - n) / n)
	fflush()
}
