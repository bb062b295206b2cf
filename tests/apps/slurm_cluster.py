"""A SLURM cluster of one machine, for tests: munged, slurmctld and slurmd of Debian's packages, in a scratch folder.

Needs root (munged and slurmd check who owns what). `missing()` says what is not there.
"""

import getpass
import os
import shutil
import socket
import subprocess
import time

CONF = """
ClusterName=scratch
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={port_of_node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,requeue_setup_env_fail
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdParameters=config_overrides
MinJobAge=600
KillWait=5
CompleteWait=0
MaxArraySize={max_array}
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 NodeHostname={host} CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=0 State=UP
PartitionName=high Nodes={host} MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF State=UP
"""


def missing():
    """What keeps such a cluster from being started here; empty if nothing does."""
    absent = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name, path=PATH)]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurm-wlm, munge)"
    if os.geteuid() != 0:
        return "not root"
    return ""


PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    def __init__(self, folder, cpus=4, max_array=1001):
        self.folder = folder
        self.daemons = []
        os.makedirs(folder)
        for name in ("state", "spool"):
            os.mkdir(os.path.join(folder, name))
        os.chmod(folder, 0o755)
        host = socket.gethostname().split(".")[0]
        with open(os.path.join(folder, "slurm.conf"), "w") as file:
            file.write(CONF.format(folder=folder, host=host, port=free_port(), port_of_node=free_port(),
                                   user=getpass.getuser(), cpus=cpus, max_array=max_array))
        with open(os.path.join(folder, "munge.key"), "wb") as file:
            file.write(os.urandom(128))
        os.chmod(os.path.join(folder, "munge.key"), 0o400)
        self.environment = {**os.environ, "PATH": PATH, "SLURM_CONF": os.path.join(folder, "slurm.conf")}
        # Files below /tmp, which all may write to, are munged's reason for --force.
        self.start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket",
                   f"--key-file={folder}/munge.key", f"--log-file={folder}/munged.log",
                   f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munge.seed")
        self.wait(lambda: os.path.exists(f"{folder}/munge.socket"), "munged")
        self.start("slurmctld", "-D", "-i")
        self.start("slurmd", "-D", "-N", host)
        self.wait(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T", check=False), "slurmctld and slurmd")

    def start(self, *words):
        log = open(os.path.join(self.folder, words[0] + ".err"), "w")
        self.daemons.append(subprocess.Popen(words, env=self.environment, stdout=log, stderr=log,
                                             stdin=subprocess.DEVNULL, start_new_session=True))
        log.close()

    def wait(self, ready, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                said = ""
                for name in sorted(os.listdir(self.folder)):
                    if name.endswith((".err", ".log")):
                        with open(os.path.join(self.folder, name), errors="replace") as file:
                            said += f"\n== {name}\n" + file.read()[-1500:]
                self.stop()
                raise RuntimeError(f"{what} did not come up in {seconds} s{said}")
            time.sleep(0.2)

    def ask(self, *words, check=True):
        done = subprocess.run(words, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=60)
        if check and done.returncode != 0:
            raise RuntimeError(f"{words}: {done.stderr}")
        return done.stdout

    def stop(self):
        if len(self.daemons) > 1:
            self.ask("scancel", "--full", f"--user={getpass.getuser()}", check=False)
            time.sleep(1)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
