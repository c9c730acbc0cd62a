// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Vm} from "forge-std/Test.sol";

import {Settlement} from "../src/Settlement.sol";
import {SwarmRegistry} from "../src/SwarmRegistry.sol";
import {Token} from "./mocks/Tokens.sol";
import {StakedSwarmTest} from "./SwarmTest.sol";

/// @dev Does what peers, owners, sponsors and roles can do, in any order. What the contract refuses is no fault; what it
/// accepts is booked here.
contract Hands is StakedSwarmTest {
    uint256 internal constant KEYS = 6;

    Vm.Wallet[] public wallets; // in ascending order of their accounts
    uint256 public staked;
    uint256 public withdrawn;
    uint256 public slashed;
    uint256 public accepted;

    mapping(address account => uint256) private _points;
    mapping(address account => uint256) private _settled;
    mapping(address account => bool) private _retired;
    uint256 private _total;

    function setUp() public override {
        super.setUp();
        Vm.Wallet[] memory sorted = peers(KEYS);
        for (uint256 i = 0; i < KEYS; ++i) {
            wallets.push(sorted[i]);
        }
        registry = deploy(terms()); // the same, with nobody in it
        for (uint256 i = 0; i < KEYS - 1; ++i) {
            register(sorted[i]);
            this.addStake(i, STAKE);
            this.live(i);
        }
    }

    function swarm() external view returns (SwarmRegistry) {
        return registry;
    }

    function tokens() external view returns (address, address) {
        return (address(rewardToken), address(stakeToken));
    }

    /// @dev In a pause nothing moves in; settled points never fall; a retired key stays out.
    modifier checked() {
        bool paused = registry.paused();
        bytes32 before = fingerprint();
        _;
        if (paused && registry.paused()) assertEq(fingerprint(), before, "something moved in a pause");
        for (uint256 i = 0; i < KEYS; ++i) {
            address account = wallets[i].addr;
            assertGe(registry.settledPoints(account), _settled[account], "settled points fell");
            _settled[account] = registry.settledPoints(account);
            if (_retired[account]) assertFalse(registry.isRegistered(account), "a retired key came back");
            _retired[account] = registry.retiredAt(account) != 0;
        }
    }

    // ---- what can be done

    function enter(uint256 who) external checked {
        Vm.Wallet memory peer = pick(who);
        send(peer.addr, abi.encodeCall(registry.register, (bytes32(peer.publicKeyX), bytes32(peer.publicKeyY))));
    }

    function live(uint256 who) external checked {
        send(pick(who).addr, abi.encodeCall(registry.checkIn, ()));
    }

    function own(uint256 who, uint256 by) external checked {
        Vm.Wallet memory peer = pick(who);
        address owner = ownerNumber(by);
        bytes memory signature = sign(peer, linkHash(peer.addr, owner, registry.nonces(peer.addr), block.timestamp));
        send(owner, abi.encodeCall(registry.linkOwner, (peer.addr, owner, block.timestamp, signature, "")));
    }

    function disown(uint256 who, uint256 by) external checked {
        send(ownerNumber(by), abi.encodeCall(registry.unlinkOwner, pick(who).addr));
    }

    function replaceKey(uint256 who, uint256 with_, uint256 by) external checked {
        (address old, Vm.Wallet memory next, address owner) = (pick(who).addr, pick(with_), ownerNumber(by));
        bytes32 structHash = rotationHash(old, next.addr, owner, registry.nonces(next.addr), block.timestamp);
        bytes memory signature = sign(next, structHash);
        (bytes32 x, bytes32 y) = (bytes32(next.publicKeyX), bytes32(next.publicKeyY));
        send(owner, abi.encodeCall(registry.rotateKey, (old, x, y, block.timestamp, signature)));
    }

    function addStake(uint256 who, uint256 amount) external checked {
        amount = bound(amount, 0, 2 * STAKE);
        stakeToken.mint(stranger, amount);
        vm.prank(stranger);
        stakeToken.approve(address(registry), amount);
        if (send(stranger, abi.encodeCall(registry.stake, (pick(who).addr, amount)))) staked += amount;
    }

    function askBack(uint256 who) external checked {
        address peer = pick(who).addr;
        address owner = registry.ownerOf(peer);
        send(owner == address(0) ? peer : owner, abi.encodeCall(registry.requestUnstake, peer));
    }

    function takeBack(uint256 who) external checked {
        (uint256 amount,) = registry.stakeOf(pick(who).addr);
        if (send(stranger, abi.encodeCall(registry.withdrawStake, pick(who).addr))) withdrawn += amount;
    }

    function accuse(uint256 who, uint64 epoch) external checked {
        Vm.Wallet memory peer = pick(who);
        (uint256 amount,) = registry.stakeOf(peer.addr);
        Settlement.Attestation memory first = attestation(peer, epoch, "one", 1);
        Settlement.Attestation memory second = attestation(peer, epoch, "another", 1);
        if (send(stranger, abi.encodeCall(registry.slashSettlement, (epoch, first, second)))) slashed += amount;
    }

    function settle(uint256 a, uint256 b, uint64 back, uint256 earned) external checked {
        uint64 epoch = registry.currentEpoch();
        if (epoch == 0) return;
        epoch -= 1 + back % (epoch < 3 ? epoch : 3);
        (address first, address second) = (pick(a).addr, pick(b).addr);
        if (first == second) return;
        _points[first] += earned % 1e9;
        _points[second] += earned % 1e7;
        _total += earned % 1e9 + earned % 1e7;
        bytes32 root = rootOf(first, _points[first], second, _points[second]);
        bytes[] memory signed = allSign(epoch, root);
        bytes memory call = abi.encodeCall(registry.postSettlement, (epoch, root, DATA, _total, signed));
        if (!send(stranger, call)) return;
        if (uint256(root) % 4 == 0) return;
        skip(CHALLENGE);
        bytes32[] memory proof = proofBy(second, _points[second]);
        send(stranger, abi.encodeCall(registry.claim, (epoch, first, _points[first], proof)));
    }

    function freezeNow(uint64 back) external checked {
        uint64 open = registry.firstOpenEpoch();
        if (open > 0) send(guardian, abi.encodeCall(registry.freeze, (open - 1 - back % open)));
    }

    function pay(uint256 who) external checked {
        send(stranger, abi.encodeCall(registry.payOwed, pick(who).addr));
    }

    function sponsor(uint256 amount) external checked {
        amount = bound(amount, 0, 1000e18);
        rewardToken.mint(stranger, amount);
        vm.prank(stranger);
        rewardToken.approve(address(registry), amount);
        send(stranger, abi.encodeCall(registry.fund, amount));
    }

    function stop(uint256 chance) external checked {
        if (chance % 8 == 0) send(guardian, abi.encodeCall(registry.pause, ()));
    }

    function goOn() external checked {
        send(governance, abi.encodeCall(registry.unpause, ()));
    }

    function wait(uint256 time) external checked {
        skip(bound(time, 1, 2 * uint256(EPOCH)));
    }

    function waitLong() external checked {
        skip(UNBONDING);
    }

    // ---- hands

    function fingerprint() private view returns (bytes32 result) {
        (uint256 funded, uint256 paid) = registry.pool();
        result = keccak256(abi.encode(registry.peerCount(), funded, paid, registry.firstOpenEpoch()));
        for (uint256 i = 0; i < KEYS; ++i) {
            address account = wallets[i].addr;
            result = keccak256(
                abi.encode(
                    result, registry.isRegistered(account), registry.ownerOf(account), registry.settledPoints(account)
                )
            );
        }
    }

    function allSign(uint64 epoch, bytes32 root) private view returns (bytes[] memory result) {
        bytes32 structHash = settlementHash(epoch, root, DATA, _total);
        uint256 count = 0;
        for (uint256 i = 0; i < KEYS; ++i) {
            if (registry.isActive(wallets[i].addr, epoch)) ++count;
        }
        result = new bytes[](count);
        for (uint256 i = KEYS; i > 0; --i) {
            if (registry.isActive(wallets[i - 1].addr, epoch)) result[--count] = sign(wallets[i - 1], structHash);
        }
    }

    function send(address sender, bytes memory call) private returns (bool success) {
        vm.prank(sender);
        (success,) = address(registry).call(call);
        if (success) ++accepted;
    }

    function pick(uint256 who) private view returns (Vm.Wallet memory) {
        return wallets[who % KEYS];
    }

    function ownerNumber(uint256 by) private pure returns (address) {
        return address(uint160(0x1000 + by % 2));
    }
}

contract InvariantsTest is StakedSwarmTest {
    Hands private hands;

    function setUp() public override {
        hands = new Hands();
        hands.setUp();
        registry = hands.swarm();
        (address reward, address stake_) = hands.tokens();
        (rewardToken, stakeToken) = (Token(reward), Token(stake_));
        targetContract(address(hands));
        bytes4[] memory setUps = new bytes4[](1);
        setUps[0] = Hands.setUp.selector;
        excludeSelector(FuzzSelector(address(hands), setUps));
    }

    function invariant_noMoreIsPaidThanFunded() public view {
        (uint256 funded, uint256 paid) = registry.pool();
        assertLe(paid, funded);
        assertEq(rewardToken.balanceOf(address(registry)), funded - paid);
    }

    function invariant_stakesAreConserved() public view {
        uint256 sum = 0;
        for (uint256 i = 0; i < 6; ++i) {
            address account = walletNumber(i);
            if (!registry.isRegistered(account)) continue; // a retired key shows the stake of the one after it
            (uint256 amount,) = registry.stakeOf(account);
            sum += amount;
        }
        assertEq(sum, hands.staked() - hands.withdrawn() - hands.slashed());
        assertEq(stakeToken.balanceOf(address(registry)), sum);
    }

    function invariant_aKeyIsOneLivePeer() public view {
        uint256 live = 0;
        for (uint256 i = 0; i < 6; ++i) {
            address account = walletNumber(i);
            if (registry.isRegistered(account)) ++live;
            assertFalse(registry.isRegistered(account) && registry.retiredAt(account) != 0);
        }
        assertEq(registry.peerCount(), live);
        for (uint256 i = 0; i < live; ++i) {
            for (uint256 j = 0; j < i; ++j) {
                assertTrue(registry.peers(i, 1)[0].x != registry.peers(j, 1)[0].x);
            }
        }
    }

    function invariant_theActiveAreCounted() public view {
        uint64 open = registry.firstOpenEpoch();
        uint64 current = registry.currentEpoch();
        if (current > 20 && open < current - 20) open = current - 20;
        for (uint64 epoch = open; epoch < current + 5; ++epoch) {
            uint256 count = 0;
            for (uint256 i = 0; i < 6; ++i) {
                if (registry.isActive(walletNumber(i), epoch)) ++count;
            }
            assertEq(registry.activeCount(epoch), count);
        }
    }

    /// @dev Each owner's list is those peers whose owner it is.
    function invariant_linksAgree() public view {
        uint256 linked = 0;
        for (uint256 i = 0; i < 6; ++i) {
            address account = walletNumber(i);
            if (registry.isRegistered(account) && registry.ownerOf(account) != address(0)) ++linked;
        }
        assertEq(registry.peerCountOf(address(0x1000)) + registry.peerCountOf(address(0x1001)), linked);
    }

    /// @dev That the hands do anything at all.
    function afterInvariant() public view {
        assertGt(hands.accepted(), 20);
    }

    function walletNumber(uint256 i) private view returns (address account) {
        (account,,,) = hands.wallets(i);
    }
}
