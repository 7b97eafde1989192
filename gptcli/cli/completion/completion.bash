# Completion of gptcli for bash.
#
# gptcli answers with lines: what to list if there is no candidate, then the candidates as bash
# takes them. They are read as lines, never evaluated. Without an answer files are listed.

_gptcli() {
    local program=${1/#\~\//$HOME/} otherwise='' line
    COMPREPLY=()
    case $3 in '<'* | '>'* | '&>'*) return ;; esac # a redirection: a file
    type -P -- "$program" >/dev/null || program=gptcli # an alias
    while IFS= read -r line; do
        if [[ -z $otherwise ]]; then
            otherwise=${line%% *}
        else
            COMPREPLY+=("$line")
        fi
    done < <(_GPTCLI_COMPLETE=bash "$program" "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null </dev/null)
    case $otherwise in # bash 3.2 has no compopt and lists files
        nothing) compopt +o default ;;
        folders) compopt +o default -o dirnames ;;
    esac 2>/dev/null
    if [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} == *[.=] ]]; then # the rest comes next
        compopt -o nospace 2>/dev/null
    fi
}

complete -o default -F _gptcli gptcli
