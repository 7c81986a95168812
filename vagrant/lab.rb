# -*- mode: ruby -*-
# Written by labimg. `vagrant up` is all there is to type: the machines stand in lab.json, their boxes in boxes/, and nothing is
# fetched. What is secret (keys, tokens) is made here at the first `up`, in .vagrant/labimg/, for this copy of the lab alone.
require "fileutils"
require "json"
require "securerandom"
require "shellwords"
require "socket"
require "tempfile"
require "uri"

module Labimg
  HERE = File.expand_path(__dir__)
  LAB = JSON.parse(File.read(File.join(HERE, "lab.json")))
  # Always beside this file: `labimg verify` looks there, whatever folder Vagrant keeps its own state in.
  STATE = File.join(HERE, ".vagrant", "labimg")
  MACHINES = File.join(File.expand_path(ENV["VAGRANT_DOTFILE_PATH"] || ".vagrant", HERE), "machines")
  # What labimg calls things: no name leads to another folder or says something to a shell.
  NAME = /\A[a-z0-9][a-z0-9._-]{0,62}\z/
  ONE ||= Mutex.new

  module_function

  # Whether this run may make something: `vagrant status` shall not leave keys behind.
  def making?
    !(ARGV & %w[up reload provision]).empty?
  end

  def refuse(text)
    raise Vagrant::Errors::VagrantError.new, text
  end

  # lab.json is a file like any other: what becomes a path or a line of a script is looked at first.
  def check_names
    hosts = LAB["hosts"]
    names = LAB["secrets"].keys + hosts.flat_map { |host| [host["name"], *host["secrets"]] }
    bad = names.find { |name| name !~ NAME }
    bad ||= hosts.map { |host| host["catalog"] }.find { |path| path !~ %r{\Aboxes/[a-z0-9][a-z0-9._-]*\.json\z} }
    bad ||= hosts.map { |host| host["ip"] }.compact.find { |ip| ip !~ /\A[0-9.]+\z/ }
    refuse "#{File.join(HERE, "lab.json")}: #{bad.inspect} is not of labimg's making" if bad
  end

  # Machines come up side by side, and so may two runs of Vagrant: one at a time makes or removes what is the lab's.
  # The lock lies beside the folder it is for, since that one is removed.
  def alone
    return yield if ONE.owned?
    ONE.synchronize do
      FileUtils.mkdir_p(File.dirname(STATE))
      File.open("#{STATE}.lock", File::RDWR | File::CREAT, 0o600) do |file|
        file.flock(File::LOCK_EX)
        yield
      end
    end
  end

  # Whole or not at all, and nobody else's to read.
  def write(name, text)
    path = File.join(STATE, name)
    alone do
      FileUtils.mkdir_p(File.dirname(path), mode: 0o700)
      File.open("#{path}.new", File::WRONLY | File::CREAT | File::TRUNC, 0o600) { |file| file.write(text) }
      File.rename("#{path}.new", path)
    end
    path
  end

  # A text made once per copy of the lab, as the profile says it: `alnum:24`, `hex:32`.
  def secret(name)
    path = File.join(STATE, "secrets", name)
    alone do
      next if File.exist?(path)
      kind, length = LAB["secrets"].fetch(name).split(":")
      text = case kind
             when "alnum" then SecureRandom.alphanumeric(length.to_i)
             when "hex" then SecureRandom.hex((length.to_i + 1) / 2)[0, length.to_i]
             else refuse "secret #{name}: #{kind.inspect} is no way to make one here"
             end
      write(File.join("secrets", name), text)
    end
    File.read(path)
  end

  # The key labimg logs in with, beside Vagrant's own: one that every SSH client takes. Its public half.
  def key
    path = File.join(STATE, "id_ed25519")
    alone do
      unless File.exist?(path)
        FileUtils.mkdir_p(STATE, mode: 0o700)
        FileUtils.rm_f(["#{path}.new", "#{path}.new.pub"])
        done = system("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "labimg #{LAB["name"]}", "-f", "#{path}.new")
        refuse "ssh-keygen did not make #{path}: install OpenSSH's client" unless done
        # The private one last: where it is, both are.
        File.rename("#{path}.new.pub", "#{path}.pub")
        File.rename("#{path}.new", path)
      end
      unless File.exist?("#{path}.pub")
        text = IO.popen(["ssh-keygen", "-y", "-f", path], &:read)
        refuse "ssh-keygen can not read #{path}" unless $?.success?
        write("id_ed25519.pub", text)
      end
    end
    File.read("#{path}.pub").strip
  end

  # Vagrant takes relative places in a catalog for relative to wherever it was started.
  def catalog(file)
    text = JSON.parse(File.read(File.join(HERE, file)))
    text["versions"].each do |version|
      version["providers"].each do |provider|
        provider["url"] = url(File.join(HERE, File.dirname(file), provider["url"]))
      end
    end
    url(write(file, JSON.pretty_generate(text)))
  end

  # Vagrant takes such escapes away again.
  def url(path)
    "file://#{URI::DEFAULT_PARSER.escape(path)}"
  end

  # Whether Vagrant has a machine of that name, as far as it tells before it has read this file.
  def there?(name)
    !Dir.glob("*/id", base: File.join(MACHINES, name)).empty?
  end

  # A port that somebody has would fail half-way; Vagrant's own check speaks of its internals.
  def check_ports
    alone do
      LAB["hosts"].reject { |host| there?(host["name"]) }.each do |host|
        host["forward"].each do |forward|
          begin
            TCPServer.new("127.0.0.1", forward["local"]).close
          rescue SystemCallError => e
            refuse "port #{forward["local"]} of this machine, which the lab leads to #{host["name"]}:#{forward["guest"]}, " \
              "can not be taken (#{e.message}): `ss -ltnp 'sport = :#{forward["local"]}'` says who has it"
          end
        end
      end
    end
  end

  # What a machine is told once it runs: who may log in, and its secrets. The secrets travel as a file in a folder of their
  # own: a command stands in process lists, in Vagrant's log, and in its message if it fails.
  def settle(machine, host)
    line = Shellwords.escape(key)
    machine.communicate.execute("umask 077; mkdir -p ~/.ssh; touch ~/.ssh/authorized_keys; grep -qxF #{line} ~/.ssh/authorized_keys || echo #{line} >> ~/.ssh/authorized_keys")
    folder = "/tmp/labimg-#{SecureRandom.hex(16)}"
    machine.communicate.execute("mkdir -m 700 #{folder}")
    Tempfile.create("settle", STATE) do |file|
      file.write(script(host, folder))
      file.close
      machine.communicate.upload(file.path, "#{folder}/settle")
    end
    machine.communicate.sudo("sh #{folder}/settle")
    remember(machine, host)
  end

  # The text of what root does there; it removes `folder`, where it lies.
  def script(host, folder)
    lines = ["set -e", "umask 077", "trap 'rm -rf #{folder}' EXIT", "mkdir -p /etc/labimg/secrets"]
    host["secrets"].each { |name| lines << "printf %s #{Shellwords.escape(secret(name))} > /etc/labimg/secrets/#{name}" }
    lines.concat(k3s(host)) if host["k3s"]
    "#{lines.join("\n")}\n"
  end

  def k3s(host)
    env = { "K3S_TOKEN" => secret("k3s-token"), "K3S_URL" => host["k3s"]["server"], "K3S_NODE_NAME" => host["name"] }
    words = env.compact.map { |name, value| Shellwords.escape("#{name}=#{value}") }
    lines = []
    # k3s takes address and interface from the default route unless it is told by arguments; there are no variables for them.
    if host["ip"]
      lines << "iface=$(ip -4 -o addr show to #{host["ip"]} | awk '{print $2; exit}')"
      lines << "[ -n \"$iface\" ] || { echo 'no interface of this machine has #{host["ip"]}' >&2; exit 1; }"
      words << "\"LABIMG_K3S_ARGS=--node-ip=#{host["ip"]} --flannel-iface=$iface\""
    end
    lines << "printf '%s\\n' #{words.join(" ")} > /etc/labimg/k3s.env"
    lines << "systemctl start --no-block #{Shellwords.escape(host["k3s"]["unit"])}"
  end

  # Where `labimg verify` finds the machine, and by which key it knows it.
  def remember(machine, host)
    public_key = +""
    machine.communicate.sudo("cat /etc/ssh/ssh_host_ed25519_key.pub") { |kind, data| public_key << data if kind == :stdout }
    info = machine.ssh_info
    place = { "host" => info[:host], "port" => info[:port].to_i, "user" => info[:username],
              "host-key" => public_key.split.first(2).join(" ") }
    write(File.join("hosts", "#{host["name"]}.json"), JSON.pretty_generate(place))
  end

  # Takes away what is known of a machine, and with the last one what is secret. Vagrant calls this also
  # where the person said that the machine shall stay: then it still has its id.
  def forget(machine, host)
    return if machine.id
    alone do
      FileUtils.rm_f(File.join(STATE, "hosts", "#{host["name"]}.json"))
      others = LAB["hosts"].map { |other| other["name"] } - [host["name"]]
      stay = others.any? { |name| there?(name) || File.exist?(File.join(STATE, "hosts", "#{name}.json")) }
      FileUtils.rm_rf(STATE) unless stay
    end
  end
end

Vagrant.configure("2") do |config|
  Labimg.check_names
  Labimg.check_ports if Labimg.making?
  config.vm.box_check_update = false
  config.vm.synced_folder ".", "/vagrant", disabled: true
  # The order of preference where several are installed.
  Labimg::LAB["providers"].each { |name| config.vm.provider name }

  Labimg::LAB["hosts"].each do |host|
    config.vm.define host["name"] do |node|
      node.vm.hostname = host["name"]
      node.vm.box = host["box"]
      node.vm.box_version = host["version"]
      node.vm.box_url = Labimg.catalog(host["catalog"]) if Labimg.making?
      if host["ip"]
        node.vm.network :private_network, ip: host["ip"],
          libvirt__network_name: Labimg::LAB["network"], libvirt__forward_mode: "none", libvirt__dhcp_enabled: false,
          # VirtualBox takes few addresses for host-only networks; machines among themselves may have any.
          virtualbox__intnet: Labimg::LAB["network"]
      end
      host["forward"].each do |forward|
        node.vm.network :forwarded_port, guest: forward["guest"], host: forward["local"], host_ip: "127.0.0.1"
      end
      node.vm.provider :libvirt do |v|
        v.memory = host["memory"]
        v.cpus = host["cores"]
      end
      node.vm.provider :virtualbox do |v|
        v.memory = host["memory"]
        v.cpus = host["cores"]
      end
      node.vm.provider "qemu" do |v|
        v.memory = "#{host["memory"]}M"
        v.smp = host["cores"].to_s
      end
      node.trigger.after :up, :reload, :provision do |trigger|
        trigger.name = "labimg"
        trigger.ruby { |_env, machine| Labimg.settle(machine, host) }
      end
      node.trigger.after :destroy do |trigger|
        trigger.name = "labimg"
        trigger.ruby { |_env, machine| Labimg.forget(machine, host) }
      end
    end
  end
end
