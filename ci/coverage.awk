# Puts lcov files together, and says what of src/ no test runs. Called by ci/coverage.sh:
#
#   awk -f ci/coverage.awk root=/the/repository least=90 ci/coverage.txt one.lcov two.lcov …
#
# A line that any of the builds runs is covered. Test code does not count: files of tests, the library that generates
# handlers for them, and items under `#[cfg(test)]`, which end at the next brace that stands as far left as the attribute
# (the sources are rustfmt's). What is not covered needs a reason, but for what says itself that it cannot be
# (`unreachable!`), and brackets alone on a line. Written for any POSIX awk; tried with mawk, Debian's own.

FILENAME ~ /coverage\.txt$/ {
    if ($0 !~ /^[ \t]*(#|$)/) {
        entry[++entries] = $1
        reason[$1] = $0
        sub(/^[^ \t]+[ \t]+/, "", reason[$1])
        if (reason[$1] == "" || reason[$1] == $1) complain("ci/coverage.txt: `" $1 "` has no reason")
    }
    next
}

/^SF:/ {
    file = substr($0, 4)
    if (substr(file, 1, length(root) + 1) == root "/") file = substr(file, length(root) + 2)
    wanted = file ~ /^src\// && !is_test(file)
    if (wanted && !(file in last)) { names[++files] = file; last[file] = 0 }
    next
}

/^DA:/ && wanted {
    split(substr($0, 4), parts, ",")
    line = parts[1] + 0
    if (line > last[file]) last[file] = line
    if (!((file, line) in hits) || parts[2] + 0 > hits[file, line]) hits[file, line] = parts[2] + 0
}

function is_test(path) {
    return path ~ /(^|[\/_])tests(\.rs$|\/)/ || path ~ /^src\/compile\/generate(\.rs$|\/)/ \
        || path == "src/compile/speed.rs" || path == "src/actor/pool_model.rs"
}

function complain(text) {
    complaints[++wrong] = text
}

function indent(text) {
    match(text, /^ */)
    return RLENGTH
}

# Counts the lines of a file that are no test's: lines[], covered[], missed[] (ranges by function).
function count(path,    number, text, skipping, waiting, left, depth, inside, within, start, end) {
    number = skipping = waiting = 0
    inside = "(top)"
    while ((getline text < (root "/" path)) > 0) {
        number++
        if (skipping) {
            if (waiting && text !~ /^ *(#|\/\/)/) {
                waiting = 0
                # An item of one line, or a field.
                if (text ~ /[;,]$/ || text ~ /\{.*\}$/) skipping = 0
            } else if (!waiting && text ~ /^ *\}/ && indent(text) <= left) {
                skipping = 0
            }
            continue
        }
        if (text ~ /^ *#\[cfg\((all\()?test/) {
            skipping = waiting = 1
            left = indent(text)
            continue
        }
        if (match(text, /(^|[ (])fn [a-z_0-9]+/)) {
            within = substr(text, RSTART, RLENGTH)
            sub(/^.*fn /, "", within)
            if (text !~ /;$/) inside = within
        }
        if (!((path, number) in hits)) continue
        lines[path]++
        if (hits[path, number] > 0) { covered[path]++; continue }
        if (text ~ /unreachable!/ || text ~ /^[ \])}]*[;,?]*$/) { plain++; continue }
        if (!((path, inside) in where)) order[path, ++kinds[path]] = inside
        where[path, inside] = where[path, inside] " " number
    }
    close(root "/" path)
    if (number == 0) complain(path ": it was compiled, and is not there")
}

# Numbers with blanks between them, as ranges.
function ranges(text,    parts, n, i, from, to, result) {
    n = split(text, parts, " ")
    from = to = parts[1]
    for (i = 2; i <= n + 1; i++) {
        if (i <= n && parts[i] == to + 1) { to = parts[i]; continue }
        result = result (result == "" ? "" : ", ") (from == to ? from : from "-" to)
        from = to = parts[i]
    }
    return result
}

function percent(path) {
    return 100 * covered[path] / lines[path]
}

# Insertion sort: there are some hundred files.
function sort(    i, j, moved) {
    for (i = 2; i <= files; i++) {
        moved = names[i]
        for (j = i - 1; j >= 1 && names[j] > moved; j--) names[j + 1] = names[j]
        names[j + 1] = moved
    }
}

END {
    sort()
    printf "%8s %8s %8s\n", "lines", "missed", "covered"
    for (i = 1; i <= files; i++) {
        path = names[i]
        count(path)
        if (!lines[path]) continue
        all += lines[path]
        run += covered[path]
        printf "%8d %8d %7.1f%%  %s\n", lines[path], lines[path] - covered[path], percent(path), path
    }
    if (!all) { print "ci/coverage.sh: there is nothing of src/ in the profiles"; exit 1 }
    printf "%8d %8d %7.1f%%  all of src/, tests aside\n", all, all - run, 100 * run / all

    print "\nNot covered, and why:"
    for (i = 1; i <= files; i++) {
        path = names[i]
        for (j = 1; j <= kinds[path]; j++) {
            inside = order[path, j]
            key = path ":" inside
            if (!(key in reason) && path in reason) key = path
            where_it_is = path ":" ranges(where[path, inside])
            if (key in reason) { why = reason[key]; used[key] = 1 }
            else {
                why = "no reason is given"
                complain(where_it_is ", " inside ": not covered, and ci/coverage.txt does not say why")
            }
            printf "  %s  %s  (%s)\n", where_it_is, inside, why
        }
    }
    printf "and %d lines with `unreachable!` or nothing but brackets\n", plain

    for (i = 1; i <= entries; i++)
        if (!(entry[i] in used)) printf "ci/coverage.txt: all of `%s` is covered, this time\n", entry[i]
    if (100 * run / all < least) complain(sprintf("%.1f %% of the lines are covered, and %d %% are wanted", 100 * run / all, least))
    for (i = 1; i <= wrong; i++) print complaints[i] > "/dev/stderr"
    exit wrong > 0
}
