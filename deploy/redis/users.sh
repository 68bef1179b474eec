# Print the ACL file of Redis: a user for each kind of process, with the commands and keys that kombu needs for it, and no user default.
# Passwords come from REDIS_PASSWORD (of admin), REDIS_WEB_PASSWORD and so on, or from the files that REDIS_PASSWORD_FILE and so on name.
# Several words are several passwords, all valid: the new one and the earlier one, while a rotation lasts. A user without a password is left out.
# shellcheck shell=sh
set -euf # -f: a password or a pattern of keys is no name of a file

# Print the hashes of a variable's passwords, as an ACL has them.
hash_passwords() {
    eval "words=\${$1:-} file=\${$1_FILE:-}"
    [ -n "$words" ] || [ -z "$file" ] || words=$(cat "$file")
    for word in $words; do
        printf '#%s ' "$(printf %s "$word" | sha256sum | cut -c 1-64)"
    done
}

# print_user NAME VARIABLE RULES...
print_user() {
    name=$1 hashes=$(hash_passwords "$2")
    shift 2
    [ -z "$hashes" ] || echo "user $name on resetkeys resetchannels -@all $hashes$*"
}

session="+ping +multi +exec +discard"
# redis-py introduces itself with a command that Redis 7.0 does not know.
case "$(redis-server --version)" in *v=7.0.*) ;; *) session="$session +client|setinfo" ;; esac
# A queue is a list for each of kombu's four priorities: reap, reap\x06\x163 ...
celery="celery celery??[369]" reap="reap reap??[369]"

# print_keys PREFIX PATTERNS: the patterns of keys, each with ~ or %W~ before it.
print_keys() {
    for pattern in $2; do printf '%s%s ' "$1" "$pattern"; done
}

# print_producer QUEUE: it declares its queue and appends to it, and can neither read a message nor delete one.
print_producer() {
    echo "(+lpush +llen $(print_keys %W~ "$1")) (+sadd %W~_kombu.binding.${1%% *} %W~_kombu.binding_permanent.${1%% *})" \
        "(+smembers %R~_kombu.binding.${1%% *})"
}

# Workers and Flower talk to each other by broadcasts, and by a queue for each reply and each listener. Two scripts of kombu's renew and remove
# what has expired of that.
scripts="+script|exists +script|load +time"
bindings="+sadd +srem +smembers +zadd +zrem +zrangebyscore +exists +del +evalsha ~_kombu.binding*"
replies="+lpush +brpop +llen +del +exists +pexpire ~*.celery.pidbox* ~celeryev.*"
broadcasts="+publish +psubscribe +punsubscribe +subscribe +unsubscribe &/0.celery.pidbox &/0.celeryev/* &/0.celeryev/worker.*"

echo "user default off resetpass resetkeys resetchannels -@all"
echo "user health on nopass resetkeys resetchannels -@all +ping" # of the probes, which need no secret then
print_user admin REDIS_PASSWORD "~* &* +@all"
print_user web REDIS_WEB_PASSWORD "$session $(print_producer "$celery")"
# It empties the reaper's queue before it sends there.
print_user beat REDIS_BEAT_PASSWORD "$session $(print_producer "$celery") $(print_producer "$reap") (+llen +del $(print_keys '~' "$reap"))"
# It takes messages, keeps those that it has not finished, and returns to the queue what another has left unfinished.
print_user worker REDIS_WORKER_PASSWORD "$session +info +watch +unwatch $scripts $broadcasts ($bindings) ($replies)" \
    "(+brpop +lpush +rpush +llen +del +exists $(print_keys '~' "$celery $reap"))" \
    "(+hset +hget +hdel +zadd +zrem +zrange +set +get +del +watch +evalsha ~unacked ~unacked_index ~unacked_mutex)"
# It sees the events and controls the workers. It takes no message, and gives none back that a worker has not finished within an hour.
print_user flower REDIS_FLOWER_PASSWORD "$session +info $scripts $broadcasts ($bindings) ($replies)" \
    "(+llen +exists $(print_keys %R~ "$celery $reap")) (+set +get +del +evalsha ~unacked_mutex) (+zrange %R~unacked_index)"
