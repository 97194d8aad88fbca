# Reports every path in src/ that the import rules forbid, one a line; exit status 1 if there is any.
# Called by ci/imports.sh, which says what the rules are. Written for any POSIX awk; tried with mawk, Debian's own.
#
# The files are cut into tokens (names, `::` and single characters; comments, strings and character literals are
# dropped), and then every path that starts with `crate`, `ringwork`, `self` or `super` is resolved to the module it
# names, through nested groups `{…}` and inline modules.

BEGIN {
    rank["error"] = rank["sync"] = rank["wire"] = rank["message"] = 1
    rank["compile"] = 2
    rank["backend"] = 3
    rank["compute"] = 4
    rank["kernel"] = 5
    rank["actor"] = 6

    # Crates that only one place may name, as patterns of the files that may.
    home["naga"] = "^src/compile([./]|$)"
    home["wgpu"] = home["pollster"] = "^src/backend/wgpu([./]|$)"
    home["cudarc"] = home["nvml_wrapper"] = "^src/backend/cuda([./]|$)"
    home["cranelift"] = "^src/compile/jit([./]|$)"

    # message! refuses WGSL's reserved words at compile time, and only naga has the list.
    excused["src/message/check.rs", "naga"] = 1

    sibling["cpu"] = sibling["wgpu"] = sibling["cuda"] = 1
}

# ---- Tokens: text[n], at[n] (line); file k has tokens first[k]..last[k].

FNR == 1 {
    if (files) last[files] = tokens
    name[++files] = FILENAME
    first[files] = tokens + 1
    comment = 0
    quote = ""
}

{ cut($0) }

function cut(rest,    end, hashes) {
    while (rest != "") {
        if (comment) {
            if (!match(rest, /\*\/|\/\*/)) return
            comment += substr(rest, RSTART, 2) == "/*" ? 1 : -1
            rest = substr(rest, RSTART + 2)
        } else if (quote == "\"") {
            # To the first quote that no backslash escapes.
            if (!match(rest, /^([^"\\]|\\.)*"/)) return
            rest = substr(rest, RLENGTH + 1)
            quote = ""
        } else if (quote != "") {
            end = index(rest, quote)
            if (!end) return
            rest = substr(rest, end + length(quote))
            quote = ""
        } else if (match(rest, /^[ \t]+/)) {
            rest = substr(rest, RLENGTH + 1)
        } else if (rest ~ /^\/\//) {
            return
        } else if (rest ~ /^\/\*/) {
            comment = 1
            rest = substr(rest, 3)
        } else if (match(rest, /^(b|c)?r#*"/)) {
            hashes = substr(rest, 1, RLENGTH)
            gsub(/[^#]/, "", hashes)
            quote = "\"" hashes
            rest = substr(rest, RLENGTH + 1)
            # Without hashes there are no escapes either; such strings hold no quote.
            if (hashes == "") {
                end = index(rest, "\"")
                if (end) { rest = substr(rest, end + 1); quote = "" }
            }
        } else if (match(rest, /^(b|c)?"/)) {
            rest = substr(rest, RLENGTH + 1)
            quote = "\""
        } else if (match(rest, /^b?'(\\[^']*|\\'|[^'\\])'/)) {
            rest = substr(rest, RLENGTH + 1)
        } else if (match(rest, /^(r#)?[A-Za-z_][A-Za-z0-9_]*/)) {
            put(substr(rest, 1, RLENGTH))
            rest = substr(rest, RLENGTH + 1)
        } else if (rest ~ /^::/) {
            put("::")
            rest = substr(rest, 3)
        } else {
            put(substr(rest, 1, 1))
            rest = substr(rest, 2)
        }
    }
}

function put(token) {
    text[++tokens] = token
    at[tokens] = FNR
}

# ---- Rules.

END {
    if (!files) { print "no files to check"; exit 1 }
    last[files] = tokens
    for (k = 1; k <= files; k++) learn(k)
    for (k = 1; k <= files; k++) check(k)
    exit found > 0
}

# What the crate root offers: `pub use` in lib.rs, exported macros; and which modules a file declares.
function learn(k,    i, inside, own) {
    own = module_of(name[k])
    sub(/::.*/, "", own)
    for (i = first[k]; i <= last[k]; i++) {
        if (text[i] == "macro_rules") exported[text[i + 2]] = own
        if (text[i] == "mod") {
            declares[k, text[i + 1]] = 1
            if (name[k] == "src/lib.rs" && !(text[i + 1] in rank))
                report(k, i, "module `" text[i + 1] "` has no place in the order of ci/imports.awk")
        }
        if (name[k] == "src/lib.rs" && text[i] == "use") { offering = 1; i = path(k, i + 1, ""); offering = 0 }
    }
}

function check(k,    i, depth, here, inner, opened) {
    here = module_of(name[k])
    delete inner
    delete opened
    for (i = first[k]; i <= last[k]; i++) {
        if (text[i] == "mod" && text[i + 2] == "{") {
            # An inline module; undone at the brace that closes it.
            opened[depth + 1] = 1
            inner[depth + 1] = here
            here = join(here, text[i + 1])
            i += 2
            depth++
        } else if (text[i] == "{") {
            depth++
        } else if (text[i] == "}") {
            if (depth in opened) { here = inner[depth]; delete opened[depth] }
            depth--
        } else if (i > first[k] && text[i - 1] == "::" && is_name(text[i - 2])) {
            # Further along a path that starts elsewhere.
            continue
        } else if (text[i + 1] == "::" && (text[i] == "crate" || text[i] == "ringwork")) {
            i = path(k, i + 2, "")
        } else if (text[i + 1] == "::" && text[i] == "self") {
            i = path(k, i + 2, here)
        } else if (text[i + 1] == "::" && text[i] == "super") {
            i = path(k, i + 2, parent(here))
        } else {
            foreign(k, i)
        }
    }
}

# Follows a path, or every path of a group, from token i on; `base` is the module reached so far. Returns the last
# token of it.
function path(k, i, base) {
    if (text[i] == "super") return path(k, i + 2, parent(base))
    if (text[i] == "{") {
        for (i++; i <= last[k] && text[i] != "}"; i++)
            if (text[i] != ",") i = path(k, i, base)
        return i
    }
    if (text[i] == "self") { arrive(k, i, base, base); return i }
    if (text[i] == "*") { arrive(k, i, base, "*"); return i }
    if (text[i] !~ /^[A-Za-z_]/) return i - 1
    base = join(base, text[i])
    # `<` after `::` gives types, which are paths of their own.
    if (text[i + 1] == "::" && text[i + 2] != "<") return path(k, i + 2, base)
    if (text[i + 1] == "as") { arrive(k, i, base, text[i + 2]); return i + 2 }
    arrive(k, i, base, text[i])
    return i
}

# A whole path `target` stands at token i, and names something `as`.
function arrive(k, i, target, as,    from, to, parts, here) {
    split(target, parts, "::")
    if (offering) { exported[as] = parts[1]; return }
    if (name[k] == "src/lib.rs" || target == "") return
    from = module_of(name[k])
    split(from, here, "::")
    to = parts[1]
    if (!(to in rank)) to = exported[to]
    if (!(here[1] in rank)) return
    if (to == "") {
        report(k, i, "`crate::" target "` is neither a module nor something that lib.rs re-exports")
    } else if (rank[to] > rank[here[1]]) {
        report(k, i, "`" here[1] "` may not import `" to "` (`crate::" target "`)")
    } else if (here[1] == "backend" && to == "backend" && here[2] in sibling && parts[2] in sibling \
               && here[2] != parts[2]) {
        report(k, i, "the backend `" here[2] "` may not import the backend `" parts[2] "`")
    }
}

# Is token i a crate that only one place may name?
function foreign(k, i,    crate) {
    crate = text[i]
    if (crate ~ /^cranelift/) crate = "cranelift"
    if (!(crate in home)) return
    if (text[i + 1] != "::" && text[i - 1] != "use" && text[i - 1] != "crate") return
    # Where a module of this name is declared, that is what is meant.
    if ((k, text[i]) in declares) return
    if (name[k] ~ home[crate] || (name[k], crate) in excused) return
    # Tests may look where they like: layouts are compared with naga's.
    if (name[k] ~ /\/tests(\.rs|\/)/) return
    report(k, i, "only " place(crate) " may name the crate `" text[i] "`")
}

# After a keyword, `::` starts a path from the list of crates.
function is_name(token) {
    return token ~ /^[A-Za-z_]/ && token !~ /^(use|as|dyn|impl|in|mut|return)$/
}

function place(crate,    where) {
    where = home[crate]
    gsub(/\^|\(.*/, "", where)
    return where
}

function report(k, i, what) {
    print name[k] ":" at[i] ": " what
    found++
}

# src/compile/lower/mod.rs and src/compile/lower.rs are both compile::lower; src/lib.rs is the root, "".
function module_of(file) {
    sub(/^src\//, "", file)
    sub(/\.rs$/, "", file)
    sub(/\/mod$/, "", file)
    if (file == "lib" || file == "main") return ""
    gsub(/\//, "::", file)
    return file
}

function parent(module) {
    if (!sub(/::[^:]*$/, "", module)) module = ""
    return module
}

function join(module, child) {
    return module == "" ? child : module "::" child
}
