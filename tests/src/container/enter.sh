# In: GROUP, OPTIONS, INSIDE and the engine as arguments. This shell joins the control group and becomes what is inside.
if [ -n "$GROUP" ]; then
    unshare --mount sh -euc '
        mount -t "$GROUP_KIND" -o "$GROUP_WITH" none "$WORK"
        mkdir -p "$WORK/$GROUP"
        echo "$1" > "$WORK/$GROUP/cgroup.procs"' sh "$$"
fi
exec unshare --mount $OPTIONS sh -euc "$INSIDE" sh "$@"
