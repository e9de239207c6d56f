# Reads the output of "go build -v" for several programs, and prints one progress for all of them.
# Variables: total is the number of packages to compile; clock is a command that prints a time in seconds.

function now(    seconds) {
	clock | getline seconds
	close(clock)
	return seconds
}

function left(seconds) {
	return seconds < 60 ? "less than a minute" : sprintf("about %d min", (seconds + 59) / 60)
}

BEGIN { if (clock == "") clock = "date +%s"; begun = now() }

# build.sh writes this line after each program.
/^built / { printf "  %s: built\n", $2; fflush(); next }
/^go: / { next }

{ n++ }
n % 100 == 0 && n < total {
	printf "  %d of %d packages compiled, %s left\n", n, total, left((now() - begun) * (total - n) / n)
	fflush()
}
