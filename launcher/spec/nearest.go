package spec

// Nearest returns the known name that name was most likely meant to be, or "" when none is near: at most one edit in three letters,
// and at least one or two.
func Nearest(name string, known []string) string {
	best, limit := "", max(len(name)/3, min(2, len(name)-1))
	if len(name) > 256 {
		return ""
	}
	for _, k := range known {
		if d := distance(name, k); d <= limit && d < len(k) {
			best, limit = k, d-1
		}
	}
	return best
}

// distance counts the edits between a and b: insertions, deletions, changes, and swaps of neighbours.
func distance(a, b string) int {
	var before, previous, current = make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(b)]
}
