#compdef gptcli
# Completion of gptcli for zsh: to be sourced, or as _gptcli in a folder of $fpath.
#
# gptcli answers with lines: what to list if no candidate fits and how the word begins before its
# value, then the candidates and what they mean. They are read as lines, never evaluated.

_gptcli() {
    local program=${${(Q)words[1]}/#\~\//$HOME/} otherwise before
    local -a lines begun
    whence -p -- "$program" >/dev/null || program=gptcli
    lines=("${(@f)$(
        _GPTCLI_COMPLETE=zsh "$program" "${(@Q)words[2,CURRENT-1]}" "${(Q)IPREFIX}${(Q)PREFIX}" \
            2>/dev/null </dev/null
    )}")
    otherwise=${lines[1]%% *} before=${lines[1]#* }
    shift lines
    compset -p ${#before}
    begun=(${(M)lines:#[^:]#[.=]:*}) # the rest comes next: no space after them
    lines=(${lines:#[^:]#[.=]:*})
    _describe -t values value lines -- begun -S '' && return
    case $otherwise in
        nothing) return 1 ;;
        folders) _files -/ ;;
        *) _files ;;
    esac
}

if [[ $funcstack[1] == _gptcli ]]; then
    _gptcli "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
    compdef _gptcli gptcli
fi
