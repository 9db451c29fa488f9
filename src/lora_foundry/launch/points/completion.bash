# Completes `python -m src.train ...` and `lora-foundry ...`; whatever else python is called with goes to the rule that
# was there before.
declare -F _completion_loader >/dev/null && _completion_loader python 2>/dev/null
_lora_foundry_before="$(complete -p python python3 2>/dev/null)"
_lora_foundry_complete() {
    local line="${COMP_LINE:0:COMP_POINT}" ask=()
    if [[ $line =~ ^[[:space:]]*[^[:space:]]+[[:space:]]+-m[[:space:]]+src\.train[[:space:]] ]]; then
        ask=("$1" -m src.train)
    elif [[ $line =~ ^[[:space:]]*[^[:space:]]*lora-foundry[[:space:]] ]]; then
        ask=("$1" train)
    fi
    if [[ ${#ask[@]} != 0 ]]; then
        local word="${line##*[[:space:]]}" IFS=$'\n'
        local before="${word%"$2"}"    # bash breaks words at =, so it asks for what stands behind it alone
        local found=($(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" "${ask[@]}" -sc query=bash 2>/dev/null))
        COMPREPLY=("${found[@]#"$before"}")
        [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[.=] ]] && compopt -o nospace
        return 0
    fi
    if [[ $_lora_foundry_before =~ -F[[:space:]]+([^[:space:]]+) ]]; then
        "${BASH_REMATCH[1]}" "$@"
    fi
}
complete -o bashdefault -o default -F _lora_foundry_complete python python3 lora-foundry
