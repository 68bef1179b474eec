# Start the roles of the image as OpenShift does: any user id, group 0, no entry in /etc/passwd, no capability, read-only files.
# `unshare --mount --pid --fork --kill-child sh as_container.sh CHECKOUT VENV PYTHON PORT`.
set -eu
checkout=$1 venv=$2 python=$3 port=$4
user="setpriv --reuid 1000680000 --regid 0 --clear-groups"

mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/srv /mnt/venv /mnt/python /mnt/bin
install -d -o 10001 -g 0 -m 0775 /mnt/var
mount --bind "$checkout" /mnt/srv
mount --bind "$venv" /mnt/venv
mount --bind "$python" /mnt/python
for name in python gunicorn celery; do
    [ $name = python ] && module= || module="-m $name"
    printf '#!/bin/sh\nexec /mnt/venv/bin/python %s "$@"\n' "$module" >/mnt/bin/$name
    chmod 755 /mnt/bin/$name
done
# The interpreter may be in the home folder of root, which no other user may enter.
if ! $user test -x "$python/bin/python3"; then
    top=/$(echo "$python" | cut -d/ -f2)
    mount -t tmpfs -o mode=755 tmpfs "$top"
    mkdir -p "$python"
    mount --bind /mnt/python "$python"
fi
mount -t tmpfs -o mode=1777 tmpfs /tmp
for place in /mnt/srv /mnt/venv /mnt/python /; do mount -o remount,bind,ro "$place"; done

run() {
    umask 077
    cd /
    exec $user --no-new-privs --inh-caps=-all --bounding-set=-all env -i PATH=/mnt/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 \
        PYTHONDONTWRITEBYTECODE=1 ENV_FILE=/dev/null VAR_DIR=/mnt/var PORT="$port" HOME=/ "$@"
}
start() (run sh /mnt/srv/deploy/entrypoint.sh "$@")

(run sh -c 'id -un >/dev/null 2>&1 || echo "no name"; touch /mnt/srv/file 2>/dev/null || echo "read-only"')
start migrate -v 0
start manage generate_data --quiet
for role in web worker beat; do
    start $role >/tmp/$role 2>&1 &
    for _ in $(seq 240); do
        [ "$(cat /mnt/var/role 2>/dev/null)" = $role ] && (run python /mnt/srv/deploy/healthcheck.py) >/tmp/health 2>&1 && break
        sleep 0.5
    done
    echo "$role: $(cat /tmp/health)"
    ! grep -A 20 Traceback /tmp/$role
done
start manage run_etl --queue --quiet
start manage run_etl --mode full --quiet
start manage backup --verify -v 0
start manage reconcile
