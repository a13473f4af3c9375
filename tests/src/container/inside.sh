# In: ROOT, OWN, LAYER, WORK, SCRATCH, FOLDER, PROGRAM and the engine as arguments, in new namespaces. Makes the root.
top=
if [ "$ROOT" != host ]; then
    mount -t tmpfs tmpfs "$WORK"
    mkdir "$WORK/upper" "$WORK/work" "$WORK/root"
    mount -t overlay -o "lowerdir=$LAYER:/,upperdir=$WORK/upper,workdir=$WORK/work" overlay "$WORK/root"
    top="$WORK/root"
    mount --rbind /dev "$top/dev"
    mount --rbind /sys "$top/sys"
    mount --rbind /proc "$top/proc"
    for path in "$FOLDER" "$(dirname "$PROGRAM")/.."; do
        # A layer is one file system without what is mounted in it.
        if [ "$(stat -c %d "$path")" != "$(stat -c %d /)" ]; then
            mount --bind "$path" "$top/$(realpath "$path")"
        fi
    done
    mount --bind "$SCRATCH" "$top$SCRATCH"
fi
case " $OWN " in *" pid "*) mount -t proc proc "$top/proc" ;; esac
case " $OWN " in *" net "*) ip link set lo up ;; esac
case "$ROOT" in
host)
    cd "$FOLDER"
    exec "$@"
    ;;
pivot)
    mkdir "$top/outside"
    cd "$top"
    pivot_root . outside
    umount -l outside
    cd "$FOLDER"
    exec "$@"
    ;;
chroot) exec chroot "$top" sh -c 'cd "$0" && exec "$@"' "$FOLDER" "$@" ;;
esac
